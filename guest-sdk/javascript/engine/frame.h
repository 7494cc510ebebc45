/* What build.sh puts into quickjs.c in front of each question whether the stack is exhausted. */
#ifndef EXUVIA_FRAME_H
#define EXUVIA_FRAME_H

/* Bytes. What the functions of the interpreter take of the host's stack each time they are called
   within themselves, and the others, with all those between: at most, as tried. */
#define BYTES_OF_CALL 256
#define BYTES_OF_OTHERS 1536

/* The address goes nowhere, but the compiler must not know that: it would make the frame small. */
#define FRAME(bytes)                                                                                                   \
  char frame_here[bytes];                                                                                              \
  __asm__ volatile("" : : "r"(frame_here) : "memory");
#define FRAME_OF_CALL FRAME(BYTES_OF_CALL)
#define FRAME_HERE FRAME(BYTES_OF_OTHERS)
#endif
