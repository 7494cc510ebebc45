/* The whole SDK as one file to compile. EXUVIA_NO_HEAP leaves the allocator to the C library: it works, but idle processes are larger. */
#include "src/msgpack.c"
#include "src/message.c"
#include "src/calls.c"
#include "src/process.c"
#ifndef EXUVIA_NO_HEAP
#include "src/heap.c"
#endif
