/* Prints the digest of every operation and exits 0 if all are golden: golden [quick] [ISA
   [THREADS]].

   Built with the library's sources, for any machine, emulated ones included
   (tests/kernels/test_golden.py). */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static void see(const char *name, uint64_t digest) {
    printf("%-28s 0x%016" PRIx64 "\n", name, digest);
}

int main(int count, char **words) {
    int quick = count > 1 && !strcmp(words[1], "quick");
    if (quick) count--, words++;
    const char *isa = count > 1 ? words[1] : pellucid_best();
    const struct operations *ops = pellucid_choose(isa);
    if (!ops) {
        fprintf(stderr, "this machine does not have %s\n", isa);
        return 2;
    }
    pool_resize(count > 2 ? atoi(words[2]) : 1);
    environment before = environment_enter();
    const char *wrong = pellucid_check(ops, !quick, see);
    environment_leave(before);
    printf("%s: %s\n", isa, wrong ? wrong : "golden");
    pool_resize(1);
    buffer_free_all();
    return wrong != NULL;
}
