#include "textflag.h"

// busHandler has R0 signal, R1 *siginfo, R2 *ucontext. Returning restores every register from the
// ucontext; for goHandler these three and R28 to R30 must be as they came.
TEXT ·busHandler(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVW	8(R1), R3	// si_code, BUS_ADRERR: the file has no such page
	CMPW	$2, R3
	BNE	chain
	ADD	$464, R2, R4	// records behind the registers: magic u32, size u32, ...
next:
	MOVWU	0(R4), R5
	CBZ	R5, chain
	MOVD	$0x45535201, R6	// ESR_MAGIC
	CMP	R6, R5
	BEQ	esr
	MOVWU	4(R4), R5
	CBZ	R5, chain
	ADD	R5, R4
	B	next
esr:
	MOVD	8(R4), R5
	TBZ	$6, R5, chain	// WnR: it was a write
	MOVD	R0, R9
	MOVD	R1, R10
	MOVD	R2, R11
	MOVD	16(R1), R0	// si_addr
	MOVD	·pageOffset(SB), R1
	BIC	R1, R0
	ADD	$1, R1
	MOVD	$3, R2		// PROT_READ|PROT_WRITE
	MOVD	$0x32, R3	// MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS
	MOVD	$-1, R4
	MOVD	$0, R5
	MOVD	$222, R8	// mmap
	SVC
	MOVD	R0, R12
	MOVD	R9, R0
	MOVD	R10, R1
	MOVD	R11, R2
	CMN	$4095, R12
	BCS	chain
	MOVD	$·lostPages(SB), R3
count:
	LDAXR	(R3), R4
	ADD	$1, R4
	STLXR	R4, (R3), R5
	CBNZ	R5, count
	RET
chain:
	MOVD	·goHandler(SB), R3
	B	(R3)

// func busHandlerPC() uintptr
TEXT ·busHandlerPC(SB),NOSPLIT,$0-8
	MOVD	$·busHandler(SB), R0
	MOVD	R0, ret+0(FP)
	RET
