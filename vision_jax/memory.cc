// A pool for the large buffers of one shared library: what it frees stays with the process, for the next step.
//
// XLA's CPU client asks for a step's memory anew each time, by posix_memalign, and has no setting for another
// allocator. `VisionJaxKeepBuffers` therefore puts two functions in the place of posix_memalign and free in the
// library's import table. Its buffers of 4 MiB and more then come from one range of addresses, by best fit; all others
// go on to the C library, as does everything outside that range when it is freed.

#include <elf.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <string>

namespace {

constexpr size_t kLarge = size_t{4} << 20;
constexpr size_t kRange = size_t{1} << 40;  // addresses; memory only where they are written
constexpr size_t kPage = 4096;
// A step may begin before XLA's threads have freed the memory of the last one: so long it waits for that.
constexpr auto kPatience = std::chrono::milliseconds(2);

class Pool {
 public:
  // Throws std::bad_alloc where the process may not have so many addresses.
  Pool() {
    void* range = mmap(nullptr, kRange, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) throw std::bad_alloc();
    madvise(range, kRange, MADV_HUGEPAGE);
    reached_ = begin_ = static_cast<char*>(range);
    idle_.emplace(begin_, kRange);
  }

  bool Has(const void* buffer) const { return buffer >= begin_ && buffer < begin_ + kRange; }

  // `size` bytes from the start of a page on, or nullptr.
  void* Take(size_t size) {
    size = (size + kPage - 1) / kPage * kPage;
    std::unique_lock<std::mutex> lock(mutex_);
    auto place = BestFit(size);
    if (place != idle_.end() && place->first + size > reached_ && InUse(size)) {
      freed_.wait_for(lock, kPatience, [&] { return !InUse(size); });
      place = BestFit(size);
    }
    if (place == idle_.end()) return nullptr;
    const auto [begin, available] = *place;
    idle_.erase(place);
    if (available > size) idle_.emplace(begin + size, available - size);
    in_use_.emplace(begin, size);
    reached_ = std::max(reached_, begin + size);
    return begin;
  }

  void Give(void* buffer) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto used = in_use_.extract(static_cast<char*>(buffer));
      auto place = idle_.emplace(used.key(), used.mapped()).first;
      JoinNext(place);
      if (place != idle_.begin()) JoinNext(std::prev(place));
    }
    freed_.notify_all();
  }

  // Returns the pages of what is idle to the system; the addresses stay.
  void Empty() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [begin, size] : idle_) {
      if (begin < reached_) madvise(begin, std::min<size_t>(size, reached_ - begin), MADV_DONTNEED);
    }
    reached_ = in_use_.empty() ? begin_ : in_use_.rbegin()->first + in_use_.rbegin()->second;
  }

 private:
  using Places = std::map<char*, size_t>;

  Places::iterator BestFit(size_t size) {
    auto best = idle_.end();
    for (auto place = idle_.begin(); place != idle_.end(); ++place) {
      if (place->second >= size && (best == idle_.end() || place->second < best->second)) best = place;
    }
    return best;
  }

  bool InUse(size_t size) const {
    return std::any_of(in_use_.begin(), in_use_.end(), [size](const auto& place) { return place.second == size; });
  }

  void JoinNext(Places::iterator place) {
    const auto next = std::next(place);
    if (next == idle_.end() || place->first + place->second != next->first) return;
    place->second += next->second;
    idle_.erase(next);
  }

  std::mutex mutex_;
  std::condition_variable freed_;
  char* begin_;
  char* reached_;  // the end of what was in use since the pool was last emptied
  Places idle_, in_use_;
};

Pool* pool;  // Never destroyed: threads free their buffers to the very end.

int Allocate(void** buffer, size_t alignment, size_t size) {
  if (size >= kLarge && size < kRange && alignment <= kPage) {
    *buffer = pool->Take(size);
    if (*buffer) return 0;
  }
  return posix_memalign(buffer, alignment, size);
}

void Free(void* buffer) {
  if (pool->Has(buffer)) {
    pool->Give(buffer);
  } else {
    free(buffer);
  }
}

struct Import {
  std::string file, symbol;
  void* replacement;
  int replaced = 0, failed = 0;
};

// Lets every reference of the library to the symbol lead to the replacement.
int Replace(dl_phdr_info* info, size_t, void* data) {
  auto& import = *static_cast<Import*>(data);
  const std::string path = info->dlpi_name;
  if (path.substr(path.rfind('/') + 1) != import.file) return 0;
  const ElfW(Dyn)* entry = nullptr;
  uintptr_t protected_begin = 0, protected_end = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_DYNAMIC) entry = reinterpret_cast<const ElfW(Dyn)*>(begin);
    if (segment.p_type == PT_GNU_RELRO) protected_begin = begin, protected_end = begin + segment.p_memsz;
  }
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela)* tables[2] = {};
  size_t bytes[2] = {};
  for (; entry && entry->d_tag != DT_NULL; ++entry) {
    const auto value = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB: symbols = reinterpret_cast<const ElfW(Sym)*>(value); break;
      case DT_STRTAB: names = reinterpret_cast<const char*>(value); break;
      case DT_RELA: tables[0] = reinterpret_cast<const ElfW(Rela)*>(value); break;
      case DT_RELASZ: bytes[0] = value; break;
      case DT_JMPREL: tables[1] = reinterpret_cast<const ElfW(Rela)*>(value); break;
      case DT_PLTRELSZ: bytes[1] = value; break;
    }
  }
  for (int t = 0; t < 2; ++t) {
    for (size_t i = 0; i < bytes[t] / sizeof(ElfW(Rela)); ++i) {
      const auto& relocation = tables[t][i];
      const auto type = ELF64_R_TYPE(relocation.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64) continue;
      if (import.symbol != names + symbols[ELF64_R_SYM(relocation.r_info)].st_name) continue;
      const uintptr_t slot = info->dlpi_addr + relocation.r_offset;
      void* page = reinterpret_cast<void*>(slot / kPage * kPage);
      const bool is_protected = protected_begin <= slot && slot < protected_end;
      if (is_protected && mprotect(page, kPage, PROT_READ | PROT_WRITE) != 0) {
        ++import.failed;
        continue;
      }
      *reinterpret_cast<void**>(slot) = import.replacement;
      if (is_protected) mprotect(page, kPage, PROT_READ);
      ++import.replaced;
    }
  }
  return 0;
}

}  // namespace

// Whether the loaded library of this file name now uses the pool. To be called once.
extern "C" bool VisionJaxKeepBuffers(const char* library) {
  try {
    pool = new Pool;
  } catch (const std::bad_alloc&) {
    return false;
  }
  Import freeing{library, "free", reinterpret_cast<void*>(Free)};
  dl_iterate_phdr(Replace, &freeing);
  if (freeing.failed || !freeing.replaced) return false;  // Nothing was allocated from the pool yet.
  Import allocating{library, "posix_memalign", reinterpret_cast<void*>(Allocate)};
  dl_iterate_phdr(Replace, &allocating);
  return allocating.replaced > 0;
}

// Returns the memory of the pool's idle buffers to the system.
extern "C" void VisionJaxGiveBack() { pool->Empty(); }
