#include "textflag.h"

// busHandler has DI signal, SI *siginfo, DX *ucontext. Returning restores every register from the
// ucontext; for goHandler these three must be as they came.
TEXT ·busHandler(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CMPL	8(SI), $2	// si_code, BUS_ADRERR: the file has no such page
	JNE	chain
	MOVQ	192(DX), AX	// gregs[REG_ERR], bit 1: it was a write
	TESTQ	$2, AX
	JEQ	chain
	PUSHQ	DI
	PUSHQ	SI
	PUSHQ	DX
	MOVQ	16(SI), DI	// si_addr
	MOVQ	·pageOffset(SB), SI
	MOVQ	SI, AX
	NOTQ	AX
	ANDQ	AX, DI
	INCQ	SI
	MOVQ	$3, DX		// PROT_READ|PROT_WRITE
	MOVQ	$0x32, R10	// MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS
	MOVQ	$-1, R8
	MOVQ	$0, R9
	MOVQ	$9, AX		// mmap
	SYSCALL
	POPQ	DX
	POPQ	SI
	POPQ	DI
	CMPQ	AX, $0xfffffffffffff001
	JCC	chain
	LOCK
	INCQ	·lostPages(SB)
	RET
chain:
	MOVQ	·goHandler(SB), AX
	JMP	AX

// func busHandlerPC() uintptr
TEXT ·busHandlerPC(SB),NOSPLIT,$0-8
	LEAQ	·busHandler(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
