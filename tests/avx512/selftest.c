// The kernels' own test as a program: selftest ISA THREADS. Every operation, ordinary and extreme, against golden.h.
#include <stdio.h>
#include <stdlib.h>

int pellucid_start(const char *isa, int threads);
const char *pellucid_self_test(int whole);

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: selftest ISA THREADS\n"), 2;
    if (!pellucid_start(argv[1], atoi(argv[2]))) return fprintf(stderr, "%s: not on this machine\n", argv[1]), 3;
    for (int whole = 0; whole < 2; whole++) {
        const char *wrong = pellucid_self_test(whole);
        if (wrong) return printf("%s, %s threads: %s has other bits\n", argv[1], argv[2], wrong), 1;
    }
    printf("%s, %s threads: every operation has the golden bits\n", argv[1], argv[2]);
    return 0;
}
