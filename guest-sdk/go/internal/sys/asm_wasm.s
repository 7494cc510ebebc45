#include "textflag.h"

TEXT ·MemorySize(SB), NOSPLIT, $0-4
	Get SP
	CurrentMemory
	I32Store ret+0(FP)
	RET

TEXT ·Trap(SB), NOSPLIT, $0-0
	UNDEF
	RET
