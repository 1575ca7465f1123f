"""What a distance between sets of images was measured with, without which the number means nothing.

The same images give FIDs that differ by more than most papers' improvements, depending on how many there are, how they
are resized and which copy of the network sees them (Parmar et al. 2022, arXiv 2104.11222).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What two distances have to share to be compared, besides the numbers of images.

    Attributes:
        prefix: of the metric's name: 'fid', 'fid_clean', 'fd_resnet56'.
        extractor: the network and what is taken from it.
        weights: SHA-256 of them.
        dimension: number of features per image.
        resize: how images become what the network sees, in words.
        reference: name of the real data, such as 'cifar10'.
        split: of it.
        fingerprint: SHA-256 of its images.
    """

    prefix: str
    extractor: str
    weights: str
    dimension: int
    resize: str
    reference: str = UNKNOWN
    split: str = ""
    fingerprint: str = UNKNOWN

    def metric(self, stem: str, generated: int | None) -> str:
        """Returns the name of a metric of so many generated images, such as 'fid10k', 'precision_10k', 'fid_clean_359'.

        Args:
            stem: 'fid', 'kid_std', 'precision'; what follows 'fid_' or 'fd_' in `prefix` is added to it.
            generated: thousands are written as such; an unknown number (None) is left out.
        """
        _, _, variant = self.prefix.partition("_")
        name = f"{stem}_{variant}" if variant else stem
        if generated is None:
            return name
        number = f"{generated // 1000}k" if generated and generated % 1000 == 0 else str(generated)
        return f"{name}{number}" if name in ("fid", "kid") else f"{name}_{number}"


@dataclasses.dataclass(frozen=True)
class Interval:
    """From `low` to `high`: value ± 1.96 standard errors over `resamples` of `rows` generated images.

    The reference is taken as given; see `frechet.standard_error` about the bias that is left out.
    """

    low: float
    high: float
    resamples: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Receipt:
    """A number with its protocol.

    Attributes:
        metric: its name.
        value: of it.
        generated: number of generated images behind it; None where a file of statistics does not say.
        real: number of real images behind it; likewise.
        protocol: how it was measured.
        settings: of the measure itself, such as the number of neighbors.
        interval: of it, where one was computed.
    """

    metric: str
    value: float
    generated: int | None
    real: int | None
    protocol: Protocol
    settings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Returns the receipt for people, some lines."""
        protocol = self.protocol
        reference = " ".join(filter(None, (protocol.reference, protocol.split)))
        counts = [f"{n:,}" if n is not None else "an unknown number of" for n in (self.generated, self.real)]
        lines = [f"{self.metric} = {self.value:.6g}"]
        if self.interval is not None:
            low, high = self.interval.low, self.interval.high
            lines[0] += f"   [{low:.6g}, {high:.6g}] (95 %, bootstrap, {self.interval.resamples} resamples)"
        lines += [
            f"images      {counts[0]} generated, {counts[1]} real",
            f"reference   {reference}, {_short(protocol.fingerprint)}",
            f"extractor   {protocol.extractor}, {protocol.dimension} features, weights {_short(protocol.weights)}",
            f"resize      {protocol.resize}",
        ]
        if self.settings:
            settings = ", ".join(f"{name} {value:,}" for name, value in self.settings.items())
            lines.append(f"settings    {settings}")
        return "\n  ".join(lines)


def _short(value: Any) -> str:
    """A digest's first digits; anything else in full."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
