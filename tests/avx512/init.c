// The emulated machine's /init: runs /program with the words of /words, passes what it prints to
// the second serial port (the first is the kernel's), adds a line `exit N`, and stops the machine
// through bochs's shutdown port.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 0x2f8, READY = 0x20, SENT = 0x40, SHUTDOWN = 0x8900 };

static void put(const char *text, ssize_t length) {
    for (ssize_t i = 0; i < length; i++) {
        while (!(inb(PORT + 5) & READY)) {
        }
        outb(text[i], PORT);
    }
}

int main(void) {
    static char words[1 << 16], text[1 << 12];
    char *argv[1024] = {0};
    int count = 0, status = 0, ends[2];
    mount("proc", "/proc", "proc", 0, 0);
    mount("dev", "/dev", "devtmpfs", 0, 0);
    int file = open("/words", O_RDONLY);
    ssize_t size = file < 0 ? -1 : read(file, words, sizeof words - 1);
    if (size < 0 || iopl(3) || pipe(ends)) return 1;
    for (char *word = words; word < words + size && count < 1023; word += strlen(word) + 1)
        argv[count++] = word;
    outb(0x83, PORT + 3); // 115,200 baud, then 8 bits without parity.
    outb(1, PORT);
    outb(0, PORT + 1);
    outb(0x03, PORT + 3);
    pid_t child = fork();
    if (!child) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execv("/program", argv);
        perror("/program");
        _exit(127);
    }
    close(ends[1]);
    char last = '\n';
    for (ssize_t length; (length = read(ends[0], text, sizeof text)) > 0; last = text[length - 1])
        put(text, length);
    if (last != '\n') put("\n", 1);
    waitpid(child, &status, 0);
    put(text, sprintf(text, "exit %d\n",
                      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)));
    while (!(inb(PORT + 5) & SENT)) {
    }
    for (const char *letter = "Shutdown"; *letter; letter++) outb(*letter, SHUTDOWN);
    for (;;) pause();
}
