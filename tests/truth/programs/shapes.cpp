// A C++ program that knows where its CPU time goes, with the names that C++ makes: namespaces,
// templates, overloads, a virtual call, a lambda and a thread.
//
// Two threads take short turns of random length (0.5 to 4.5 ms of their own CPU clock): nothing in
// the program is in step with a sampler. Expected: Engine<int>::spin 50 %, grind(double) 30 %,
// Square::area (virtual, through a lambda) 20 %.
// Usage: shapes TRUTH.json CPU_SECONDS
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/resource.h>
#include <thread>
#include <time.h>

#if defined(__clang__)
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noipa))
#endif

namespace truth {

static std::uint64_t thread_ns() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::uint64_t(t.tv_sec) * 1000000000u + std::uint64_t(t.tv_nsec);
}

namespace detail {
// Inlined into its callers: profiles show it as an inlined frame with lines of this block.
template <typename T> inline __attribute__((always_inline)) T stir(T x, T y) {
    x = x * 31 + y; // inline:begin
    x = x ^ (x >> 7);
    x = x + (x << 3);
    return x ^ (x >> 11); // inline:end
}
} // namespace detail

template <typename T> struct Engine {
    T state;
    APART std::uint64_t spin(std::uint64_t until) {
        do {
            for (int i = 0; i < 20000; i++) state = detail::stir<T>(state, T(i));
        } while (thread_ns() < until);
        return std::uint64_t(state);
    }
};

APART std::uint64_t grind(double seed, std::uint64_t until) {
    do {
        for (int i = 1; i < 10000; i++) seed = seed / (1.0 + seed) + double(i) * 1e-3;
    } while (thread_ns() < until);
    return std::uint64_t(seed);
}

// The overload that hardly runs: a profile that mixes the two up shows it.
APART std::uint64_t grind(int seed, std::uint64_t) { return std::uint64_t(seed) * 3; }

struct Shape {
    virtual ~Shape() = default;
    virtual std::uint64_t area(std::uint64_t until) = 0;
};

struct Square : Shape {
    std::uint32_t side = 3;
    APART std::uint64_t area(std::uint64_t until) override {
        do {
            for (std::uint32_t i = 1; i < 20000; i++) side = side * side % 1000003u + i;
        } while (thread_ns() < until);
        return side;
    }
};

static std::atomic<std::uint64_t> spent_spin, spent_grind, spent_area;

APART std::uint64_t run_turns(std::uint64_t seed, std::uint64_t end) {
    Engine<int> engine{int(seed)};
    std::unique_ptr<Shape> shape = std::make_unique<Square>();
    auto through_lambda = [&](std::uint64_t until) { return shape->area(until) + 1; };
    std::uint64_t sum = 0, random = seed, now = thread_ns();
    while (now < end) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        std::uint64_t turn = 500000u + (random >> 33) % 4000000u;
        // A second draw chooses the work, so that length and kind are independent.
        random = random * 6364136223846793005u + 1442695040888963407u;
        std::uint64_t kind = (random >> 33) % 10, begin = now;
        if (kind < 5) {
            sum += engine.spin(begin + turn);
            now = thread_ns();
            spent_spin += now - begin;
        } else if (kind < 8) {
            sum += grind(double(seed), begin + turn) + grind(int(seed), begin);
            now = thread_ns();
            spent_grind += now - begin;
        } else {
            sum += through_lambda(begin + turn);
            now = thread_ns();
            spent_area += now - begin;
        }
    }
    return sum;
}

} // namespace truth

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    std::uint64_t each = std::uint64_t(std::atof(argv[2]) * 1e9 / 2);
    std::atomic<std::uint64_t> sink{0};
    std::thread second([&] { sink += truth::run_turns(7, each); });
    sink += truth::run_turns(11, truth::thread_ns() + each);
    second.join();
    rusage used;
    getrusage(RUSAGE_SELF, &used);
    std::uint64_t cpu =
        std::uint64_t(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
        std::uint64_t(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u;
    std::FILE *out = std::fopen(argv[1], "w");
    if (!out) return 1;
    std::fprintf(out,
                 "{\"cpu_ns\":%llu,\"functions\":{\"spin\":%llu,\"grind\":%llu,\"area\":%llu}}\n",
                 (unsigned long long)cpu, (unsigned long long)truth::spent_spin.load(),
                 (unsigned long long)truth::spent_grind.load(),
                 (unsigned long long)truth::spent_area.load());
    return std::fclose(out) == 0 ? 0 : 1;
}
