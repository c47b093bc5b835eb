/* C without intrinsics and with the fused multiply-add in software: for any CPU. */
#define TABLE operations_software
#define TABLE_NAME "software"
#include "body.h"
