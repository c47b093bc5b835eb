#include "kernels.h"
#if ARM
#define ISA_NEON
#define TABLE operations_neon
#define TABLE_NAME "neon"
#include "body.h"
#endif
