"""Tests; this file makes `python -m tests.parity` find them before any other package called tests."""


def checked(function):
    """The type checker that jaxtyping's import hook puts around functions while tests run; pyproject.toml says where.

    An annotation like `Float[Array, "n h w c"]` is then compared with what comes in and goes out. Functions without one
    stay as they are: other types are mypy's business.
    """
    import beartype

    if not any("jaxtyping" in repr(hint) for hint in function.__annotations__.values()):
        return function
    # An int is a float to type checkers; beartype has to be told.
    return beartype.beartype(function, conf=beartype.BeartypeConf(is_pep484_tower=True))
