/* A pool of threads. Tasks are taken from one counter, so that a thread that the system has
   suspended takes none. The caller takes part, and waits only for threads that are inside a task.

   Why not OpenMP: its static schedule gives each thread its share beforehand. With another process
   on the machine, one suspended thread then holds up every operation. Threads split independent
   outputs only, never a sum, so no bit depends on which thread takes which task, nor on how many
   there are. */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "kernels.h"

#define MAX_THREADS 256
/* Nanoseconds that a thread waits awake, longer than the gap between two operations of a step; then
   it sleeps. Not a number of pauses: one takes 10 to 40 ns, as the CPU has it. */
#define PATIENCE 200000
#define PAUSES 16 /* Between two looks at the clock. */

static struct {
    pthread_mutex_t callers, mutex;
    pthread_cond_t wake, left;
    pthread_t threads[MAX_THREADS];
    int size;                                 /* Threads of our own: one fewer than take part. */
    atomic_int stop, asleep, waiting, inside; /* asleep, inside: counts; waiting: the caller. */
    atomic_ulong open;                        /* Odd while a region takes threads in. */
    atomic_long next;
    task *run;
    void *arguments;
    long count;
} pool = {.callers = PTHREAD_MUTEX_INITIALIZER,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

static void relax(void) {
#if X86
    __builtin_ia32_pause();
#elif ARM
    __asm__ volatile("yield");
#endif
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void take_tasks(int worker) {
    long index;
    while ((index = atomic_fetch_add(&pool.next, 1)) < pool.count)
        pool.run(pool.arguments, index, worker);
}

/* Wait for a region after the one last seen. The number is compared, and not only its parity: a
   thread that was suspended through a whole region must not take the next one for it. */
static unsigned long next_region(unsigned long seen) {
    for (int64_t end = nanoseconds() + PATIENCE; nanoseconds() < end;)
        for (int i = 0; i < PAUSES; i++) {
            unsigned long open = atomic_load(&pool.open);
            if (open != seen && open % 2) return open;
            if (atomic_load(&pool.stop)) return 0;
            relax();
        }
    /* Counted as asleep before `open` is read again: pool_run opens the region first and looks at
       `asleep` afterwards, so one of the two sees the other and no wake-up is lost. */
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.asleep, 1);
    unsigned long open;
    while ((open = atomic_load(&pool.open)) == seen || open % 2 == 0) {
        if (atomic_load(&pool.stop)) break;
        pthread_cond_wait(&pool.wake, &pool.mutex);
    }
    atomic_fetch_sub(&pool.asleep, 1);
    pthread_mutex_unlock(&pool.mutex);
    return atomic_load(&pool.stop) ? 0 : open;
}

static void *work(void *number) {
    environment_enter();
    unsigned long seen = 0;
    while ((seen = next_region(seen))) {
        atomic_fetch_add(&pool.inside, 1);
        /* Inside while the same region is open: it cannot end, nor its arguments change, before we
           leave. */
        if (atomic_load(&pool.open) == seen) take_tasks((int)(intptr_t)number);
        /* The last one out wakes the caller, but only where the caller sleeps: a signal is a
           system call. */
        if (atomic_fetch_sub(&pool.inside, 1) == 1 && atomic_load(&pool.waiting)) {
            pthread_mutex_lock(&pool.mutex);
            pthread_cond_signal(&pool.left);
            pthread_mutex_unlock(&pool.mutex);
        }
    }
    return NULL;
}

static void wait_until_left(void) {
    for (int64_t end = nanoseconds() + PATIENCE; nanoseconds() < end;)
        for (int i = 0; i < PAUSES; i++) {
            if (atomic_load(&pool.inside) == 0) return;
            relax();
        }
    pthread_mutex_lock(&pool.mutex);
    atomic_store(&pool.waiting, 1);
    while (atomic_load(&pool.inside)) pthread_cond_wait(&pool.left, &pool.mutex);
    atomic_store(&pool.waiting, 0);
    pthread_mutex_unlock(&pool.mutex);
}

void pool_run(task *run, void *arguments, long count) {
    if (pool.size == 0 || count == 1) {
        for (long index = 0; index < count; index++) run(arguments, index, 0);
        return;
    }
    /* No thread reads these while `open` is even: the fields are written before it becomes odd, by
       sequentially consistent order. */
    pool.run = run, pool.arguments = arguments, pool.count = count;
    atomic_store(&pool.next, 0);
    atomic_fetch_add(&pool.open, 1);
    if (atomic_load(&pool.asleep)) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.mutex);
    }
    take_tasks(0);
    /* All tasks are taken. From here no thread comes in, and those inside finish their last one. */
    atomic_fetch_add(&pool.open, 1);
    wait_until_left();
}

static void stop_threads(void) {
    pthread_mutex_lock(&pool.mutex);
    atomic_store(&pool.stop, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);
    while (pool.size) pthread_join(pool.threads[--pool.size], NULL);
    atomic_store(&pool.stop, 0);
}

/* A fork in the middle of a call would copy a locked mutex and half-written buffers into the child,
   so it waits for the call to end. */
static void before_fork(void) { pthread_mutex_lock(&pool.callers); }
static void after_fork_parent(void) { pthread_mutex_unlock(&pool.callers); }

/* A forked child has none of our threads. */
static void after_fork_child(void) {
    pool.size = 0;
    pthread_mutex_init(&pool.callers, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.left, NULL);
    atomic_store(&pool.asleep, 0), atomic_store(&pool.inside, 0), atomic_store(&pool.waiting, 0);
}

int pool_resize(int threads) {
    static int watched;
    if (!watched) watched = pthread_atfork(before_fork, after_fork_parent, after_fork_child) == 0;
    if (threads < 1) threads = 1;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads == pool.size + 1) return threads;
    stop_threads();
    /* Python expects signals in its own threads: ours block all of them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.size + 1 < threads) {
        void *number = (void *)(intptr_t)(pool.size + 1);
        if (pthread_create(&pool.threads[pool.size], NULL, work, number)) break;
        pool.size++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool_threads();
}

int pool_threads(void) { return pool.size + 1; }
void pool_enter(void) { pthread_mutex_lock(&pool.callers); }
void pool_leave(void) { pthread_mutex_unlock(&pool.callers); }

static struct {
    void *memory;
    size_t bytes;
} buffers[BUFFERS];

/* Memory that stays for the next call. The contents are not kept, and nothing is cleared: every
   kernel writes what it reads. Aligned to a cache line, which is also the widest vector. */
void *buffer_get(enum buffer which, size_t bytes) {
    if (bytes > buffers[which].bytes) {
        free(buffers[which].memory);
        buffers[which].bytes = 0;
        buffers[which].memory = NULL;
        if (bytes > SIZE_MAX - 64) return NULL;
        size_t whole = (bytes + 63) / 64 * 64;
        if (posix_memalign(&buffers[which].memory, 64, whole)) return buffers[which].memory = NULL;
        buffers[which].bytes = whole;
    }
    return buffers[which].memory;
}

void buffer_free_all(void) {
    for (int i = 0; i < BUFFERS; i++) {
        free(buffers[i].memory);
        buffers[i].memory = NULL;
        buffers[i].bytes = 0;
    }
}

/* Let the C library keep what is freed, instead of giving it back and having it cleared again page
   by page: the same tensors are wanted at every step. Returns whether it could. */
int pellucid_keep_memory(void) {
#ifdef __GLIBC__
    return mallopt(M_MMAP_MAX, 0) && mallopt(M_TRIM_THRESHOLD, -1);
#else
    return 0;
#endif
}
