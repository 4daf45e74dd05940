/* Exports what CPython 3.12 exports and lies with it: liar MODE SECONDS */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t _PyRuntime[512];
uint64_t PyCode_Type[64];
uint64_t PyUnicode_Type[64];
const uint64_t Py_Version = 0x030c01f0;
static uint64_t interpreter[512], thread[64], loop[8];
static uint64_t frames[1024][12], code[64], name[512], file[64], lines[64];

static void put(void *at, size_t offset, uint64_t value) { memcpy((char *)at + offset, &value, 8); }

static void text(uint64_t *object, const char *content, uint64_t length) {
    put(object, 8, (uint64_t)PyUnicode_Type);
    put(object, 16, length);
    put(object, 32, 1 << 2 | 1 << 5 | 1 << 6);
    memcpy((char *)object + 40, content, strlen(content));
}

/* CPU time: samples come of it. */
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* A page that never comes. */
static void *endless(void) {
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.range = {(uint64_t)page, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) exit(77);
    return page;
}

__attribute__((noinline)) void _PyEval_EvalFrameDefault(const char *mode, double length, char **arguments) {
    double end = seconds() + length;
    uint64_t n = 0;
    while (seconds() < end)
        for (volatile int i = 0; i < 1000; i++) {
            if (strcmp(mode, "changing")) continue;
            n = n * 6364136223846793005u + 1442695040888963407u;
            put(frames[n >> 40 & 1023], 8 * (n >> 20 & 7), n >> 62 ? n : (uint64_t)frames[n >> 30 & 1023]);
        }
    if (!strcmp(mode, "exec")) {
        char *again[] = {arguments[0], "loop", arguments[2], 0};
        execv("/proc/self/exe", again);
    }
}

int main(int count, char **arguments) {
    const char *mode = arguments[1];
    put(_PyRuntime, 40, (uint64_t)interpreter);
    put(interpreter, 72, (uint64_t)thread);
    put(thread, 56, (uint64_t)loop);
    put(thread, 144, syscall(SYS_gettid));
    put(loop, 0, (uint64_t)frames[0]);
    put(code, 8, (uint64_t)PyCode_Type);
    put(code, 16, 100);
    put(code, 68, 7);
    put(code, 112, (uint64_t)file);
    put(code, 128, (uint64_t)name);
    put(code, 136, (uint64_t)lines);
    text(file, "liar\x1b[2J.py", 11);
    text(name, "lie\n\x07\x1b]0;title", 14);
    put(lines, 16, 8);
    for (int i = 0; i < 1024; i++) {
        put(frames[i], 0, (uint64_t)code);
        put(frames[i], 8, i < 2 ? (uint64_t)frames[i + 1] : 0);
        put(frames[i], 56, (uint64_t)code + 192);
        ((char *)frames[i])[70] = i == 2 ? 3 : 0;
    }
    if (!strcmp(mode, "loop")) put(frames[1], 8, (uint64_t)frames[0]);
    if (!strcmp(mode, "self")) put(frames[1], 8, (uint64_t)frames[1]);
    if (!strcmp(mode, "deep")) for (int i = 0; i < 1023; i++) put(frames[i], 8, (uint64_t)frames[i + 1]);
    if (!strcmp(mode, "unmapped")) put(frames[1], 8, 0x10);
    if (!strcmp(mode, "wrapping")) put(frames[1], 8, UINT64_MAX - 4);
    if (!strcmp(mode, "length")) put(name, 16, 1ull << 63), put(lines, 16, 1ull << 63);
    if (!strcmp(mode, "type")) put(code, 8, (uint64_t)name);
    if (!strcmp(mode, "position")) put(frames[0], 56, 1ull << 63);
    if (!strcmp(mode, "interpreters")) put(interpreter, 0, (uint64_t)interpreter), put(thread, 144, 1);
    if (!strcmp(mode, "threads")) put(thread, 8, (uint64_t)thread), put(thread, 144, 1);
    if (!strcmp(mode, "endless")) put(frames[1], 8, (uint64_t)endless());
    if (!strcmp(mode, "nameless")) put(code, 128, (uint64_t)endless());
    _PyEval_EvalFrameDefault(mode, atof(arguments[2]), arguments);
    return 0;
}
