// Says to the recorder what no library would: files that are not rings, and rings full of nonsense.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const size_t size = 4096 + (4 << 20);

static void hand_over(int file) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, getenv("PROFPIPE_HEAP"), sizeof address.sun_path - 1);
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) abort();
    char byte = 1;
    struct iovec piece = {&byte, 1};
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = {{0}};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (file >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &file, sizeof file);
    }
    if (sendmsg(connection, &message, MSG_NOSIGNAL) != 1) abort();
    close(connection);
}

static uint64_t *ring(void) {
    int file = memfd_create("ring", MFD_ALLOW_SEALING);
    ftruncate(file, size);
    fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    uint64_t *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    memcpy(memory, "ppheap\0\1", 8);
    hand_over(file);
    close(file);
    return memory;
}

int main(void) {
    // Nobody would hand these over.
    hand_over(-1);
    hand_over(open("/dev/zero", O_RDWR));
    hand_over(open("/dev/null", O_RDWR));
    int pipes[2];
    pipe(pipes);
    hand_over(pipes[1]);
    // One that becomes shorter when it is mapped.
    int file = memfd_create("ring", MFD_ALLOW_SEALING);
    ftruncate(file, size);
    hand_over(file);
    ftruncate(file, 0);
    srand(7);
    for (int i = 0; i < 40; i++) {
        uint64_t *memory = ring(), *data = memory + 512;
        size_t at = 0;
        for (int record = 0; record < 300 && at < (4 << 20) / 8 - 8192; record++) {
            size_t words = 2 + rand() % 6000;
            for (size_t j = 1; j < words; j++) {
                int kind = rand() % 4;
                data[at + j] = kind == 0 ? 0 : kind == 1 ? UINT64_MAX : kind == 2 ? rand() % 4096 : ((uint64_t)rand() << 33) ^ rand();
            }
            uint64_t length = i % 3 ? words * 8 : (uint64_t)rand();
            data[at] = (uint64_t)1 << 63 | (uint64_t)(rand() % 4) << 32 | length;
            at += words;
        }
        // How far it is written, and what was lost.
        memory[16] = i % 5 ? at * 8 : UINT64_MAX - i;
        memory[3] = UINT64_MAX;
        for (int pause = 0; pause < 5; pause++) {
            usleep(5000);
            // It goes on while it is read.
            for (int j = 0; j < 1000; j++) data[rand() % (at + 1)] = (uint64_t)rand() << 32 | rand();
            memory[32] = rand();
        }
    }
    puts("done");
}
