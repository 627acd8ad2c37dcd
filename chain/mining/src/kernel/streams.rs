//! What the processor could do at best: the instructions of each kernel, none of which waits for another's outcome.
//!
//! A kernel can be no faster than the units that execute its instructions. Which unit takes which instruction, and how
//! they get in each other's way, is not published for every processor, so it is measured: a stream executes the same
//! instructions as its kernel in the same numbers, evenly mixed, but every one reads registers that nothing writes or
//! that were written long before. So only the units limit it. Where the processor's registers are too few, loads and
//! stores of words belong to the instructions; copies between registers and the loop's own bookkeeping never do. What a
//! kernel loses against its stream it loses by waiting, moving between registers, and fetching.
//!
//! Counted in the compiled kernels, and what the streams have of it:
//!
//! ```text
//!   SHA, one hash                 rnds2 61, msg2 23, msg1 19, palignr 21, paddd 50, shuffles 28  61 23 19 21 49 27
//!                                 loads 50, stores 28                                            50 28
//!   SHA and vectors, 8 hashes     rnds2 480, each with a load of its words                          480
//!                                 add 357, xor 315, ror 312, srl 156, unpck 112 and stores          360 300 300 180 120
//!   AVX-512, 16 hashes            add 1,049, ror 1,020, ternlog 628, srl 156                        1,040 1,040 624 156
//!   AVX2, 8 hashes                or, xor 2,158, srl 1,176, add 1,048, sll 1,020, and 356    2,132 1,196 1,040 1,040 364
//! ```
//!
//! On a Zen 4 the streams take 75, 60, 90 and 180 cycles a hash. The second is the rate at which `sha256rnds2` is issued
//! there, one a cycle: the vectors fit in between.

use std::arch::asm;

/// Repeats the instructions `$times` times, which must not be zero. They may write the first sixteen vector registers.
macro_rules! stream {
    ($times:expr, [$($operand:tt)*], $($line:expr),* $(,)?) => {
        asm!(
            "2:",
            $($line,)*
            "dec {times}",
            "jnz 2b",
            times = inout(reg) u64::from($times) => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
            out("xmm13") _, out("xmm14") _, out("xmm15") _,
            $($operand)*
            options(nostack),
        )
    };
}

/// Four rounds and the schedule of four words but for `sha256msg2`, and another two rounds whose words are known: with
/// the registers that the instructions with a latency of three and four write. None is written again before that.
macro_rules! sha_group {
    ($rounds:literal $more_rounds:literal $known_rounds:literal $msg1:literal) => {
        concat!(
            "vpaddd xmm14, xmm15, [{rows} + 64]\n",
            "vpaddd xmm14, xmm15, xmm15\n",
            concat!("sha256rnds2 xmm", $rounds, ", xmm15\n"),
            concat!("sha256rnds2 xmm", $more_rounds, ", xmm15\n"),
            "vmovdqa xmm14, [{rows} + 16]\n",
            concat!("sha256rnds2 xmm", $known_rounds, ", xmm15\n"),
            "vpshufd xmm14, xmm15, 14\n",
            concat!("sha256msg1 xmm", $msg1, ", xmm15\n"),
            "vmovdqa [{rows} + 48], xmm15\n",
            "vpalignr xmm14, xmm15, [{rows} + 32], 4\n",
            "vmovdqa xmm14, [{rows}]\n",
        )
    };
}

/// The stream of the SHA kernels: of the one with AVX, which has the fewest instructions.
///
/// Only one `sha256msg2` and nothing else enters a cycle, so four of them are side by side: the instructions before each
/// would not fill the last cycle. Of some sixty orders of the others this is one of the fastest (75 to 82 cycles).
///
/// # Safety
///
/// The processor has the SHA instructions and AVX.
pub(super) unsafe fn sha(hashes: u32) {
    if hashes == 0 {
        return;
    }
    let mut rows = SharedRows([0; 128]);
    // SAFETY: the caller vouches for the instructions, which write only the registers named and `rows`.
    unsafe {
        stream!(
            hashes,
            [rows = in(reg) rows.0.as_mut_ptr(),],
            ".rept 5",
            sha_group!(1 2 3 8),
            sha_group!(4 5 6 13),
            sha_group!(7 1 2 8),
            "vpaddd xmm14, xmm15, [{rows} + 64]",
            "vpshufd xmm14, xmm15, 14",
            "vmovdqa [{rows} + 48], xmm15",
            "vmovdqa xmm14, [{rows}]",
            "vmovdqa xmm14, [{rows} + 16]",
            ".irp n, 9, 10, 11, 12",
            "sha256msg2 xmm\\n, xmm15",
            ".endr",
            ".endr",
            sha_group!(3 4 5 13),
            sha_group!(6 7 1 8),
            sha_group!(2 3 4 13),
            sha_group!(5 6 7 8),
            ".irp n, 9, 10, 11",
            "sha256msg2 xmm\\n, xmm15",
            ".endr",
            // What else the first and last groups have.
            ".irp n, 1, 2, 3, 4",
            "sha256rnds2 xmm\\n, xmm15",
            "vpaddd xmm14, xmm15, xmm15",
            "vmovdqa [{rows} + 48], xmm15",
            ".endr",
            ".rept 2",
            "vmovdqa xmm14, [{rows}]",
            "vpaddd xmm14, xmm15, [{rows} + 64]",
            "vpalignr xmm14, xmm15, [{rows} + 32], 4",
            ".endr",
            ".rept 3",
            "vpshufd xmm14, xmm15, 14",
            ".endr",
        );
    }
}

/// What the stream of the SHA kernels loads and stores.
#[repr(align(64))]
struct SharedRows([u8; 128]);

/// Hashes of a turn of [`sha_avx512`].
const SHA_AVX512_HASHES: u32 = 8;

/// The stream of the kernel of SHA instructions and vectors.
///
/// # Safety
///
/// The processor has the SHA instructions and AVX-512 F and VL.
pub(super) unsafe fn sha_avx512(hashes: u32) {
    let turns = hashes / SHA_AVX512_HASHES;
    if turns == 0 {
        return;
    }
    let mut row = [0u8; 128];
    // SAFETY: the caller vouches for the instructions; they write only the registers named and `row`, and leave the
    // upper halves clean.
    unsafe {
        stream!(
            turns,
            [row = in(reg) row.as_mut_ptr(), out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
             out("xmm20") _, out("xmm21") _,],
            ".rept 60",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm1, xmm15",
            "vprord ymm16, ymm30, 7",
            "vpaddd ymm17, ymm30, ymm31",
            "vpxord ymm18, ymm30, ymm31",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm2, xmm15",
            "vpsrld ymm19, ymm30, 3",
            "vpaddd ymm17, ymm30, ymm31",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm3, xmm15",
            "vprord ymm16, ymm30, 7",
            "vpxord ymm18, ymm30, ymm31",
            "vpaddd ymm17, ymm30, ymm31",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm4, xmm15",
            "vprord ymm16, ymm30, 7",
            "vpunpckldq ymm20, ymm30, ymm31",
            "vmovdqu32 [{row}], ymm30",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm5, xmm15",
            "vpsrld ymm19, ymm30, 3",
            "vpaddd ymm17, ymm30, ymm31",
            "vpxord ymm18, ymm30, ymm31",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm6, xmm15",
            "vprord ymm16, ymm30, 7",
            "vpaddd ymm17, ymm30, ymm31",
            "vpxord ymm18, ymm30, ymm31",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm7, xmm15",
            "vpsrld ymm19, ymm30, 3",
            "vpunpckhdq ymm21, ymm30, ymm31",
            "vmovdqu32 [{row} + 32], ymm31",
            "vmovq xmm0, qword ptr [{row} + 64]",
            "sha256rnds2 xmm8, xmm15",
            "vprord ymm16, ymm30, 7",
            "vpxord ymm18, ymm30, ymm31",
            "vpaddd ymm17, ymm30, ymm31",
            ".endr",
        );
        asm!("vzeroupper", options(nomem, nostack, preserves_flags));
    }
}

/// Hashes of a turn of [`avx512`] and of [`avx2`], and the parts that their streams are divided into.
const AVX512_HASHES: u32 = 16;
const AVX2_HASHES: u32 = 8;
const VECTOR_PARTS: u32 = 52;

/// The stream of the AVX-512 kernel.
///
/// # Safety
///
/// The processor has AVX-512 F.
pub(super) unsafe fn avx512(hashes: u32) {
    let parts = hashes / AVX512_HASHES * VECTOR_PARTS;
    if parts == 0 {
        return;
    }
    // SAFETY: the caller vouches for the instructions, which write only the registers named; the upper halves are clean
    // in the end.
    unsafe {
        stream!(
            parts,
            [],
            ".rept 4",
            "vprord zmm2, zmm0, 7",
            "vpaddd zmm3, zmm0, zmm1",
            "vpternlogd zmm4, zmm0, zmm1, 0x96",
            "vprord zmm5, zmm0, 9",
            "vpaddd zmm6, zmm0, zmm1",
            "vprord zmm7, zmm0, 7",
            "vpternlogd zmm8, zmm0, zmm1, 0x96",
            "vpaddd zmm9, zmm0, zmm1",
            "vprord zmm10, zmm0, 7",
            "vpaddd zmm11, zmm0, zmm1",
            "vprord zmm12, zmm0, 7",
            "vpternlogd zmm13, zmm0, zmm1, 0xca",
            "vpaddd zmm14, zmm0, zmm1",
            ".endr",
            "vpsrld zmm15, zmm0, 3",
            "vpsrld zmm15, zmm0, 3",
            "vpsrld zmm15, zmm0, 3",
        );
        asm!("vzeroupper", options(nomem, nostack, preserves_flags));
    }
}

/// The stream of the AVX2 kernel.
///
/// # Safety
///
/// The processor has AVX2.
pub(super) unsafe fn avx2(hashes: u32) {
    let parts = hashes / AVX2_HASHES * VECTOR_PARTS;
    if parts == 0 {
        return;
    }
    // SAFETY: as in `avx512`.
    unsafe {
        stream!(
            parts,
            [],
            ".rept 6",
            "vpsrld ymm2, ymm0, 7",
            "vpxor ymm3, ymm0, ymm1",
            "vpaddd ymm4, ymm0, ymm1",
            "vpslld ymm5, ymm0, 9",
            "vpor ymm6, ymm0, ymm1",
            "vpxor ymm7, ymm0, ymm1",
            "vpsrld ymm8, ymm0, 7",
            "vpaddd ymm9, ymm0, ymm1",
            "vpor ymm10, ymm0, ymm1",
            "vpslld ymm11, ymm0, 9",
            "vpand ymm12, ymm0, ymm1",
            "vpxor ymm13, ymm0, ymm1",
            "vpsrld ymm14, ymm0, 7",
            "vpaddd ymm15, ymm0, ymm1",
            "vpor ymm2, ymm0, ymm1",
            "vpslld ymm3, ymm0, 9",
            ".endr",
            "vpsrld ymm2, ymm0, 3",
            "vpxor ymm3, ymm0, ymm1",
            "vpaddd ymm4, ymm0, ymm1",
            "vpsrld ymm5, ymm0, 3",
            "vpor ymm6, ymm0, ymm1",
            "vpslld ymm7, ymm0, 9",
            "vpsrld ymm8, ymm0, 3",
            "vpxor ymm9, ymm0, ymm1",
            "vpaddd ymm10, ymm0, ymm1",
            "vpsrld ymm11, ymm0, 3",
            "vpor ymm12, ymm0, ymm1",
            "vpslld ymm13, ymm0, 9",
            "vpsrld ymm14, ymm0, 3",
            "vpxor ymm15, ymm0, ymm1",
            "vpand ymm2, ymm0, ymm1",
        );
        asm!("vzeroupper", options(nomem, nostack, preserves_flags));
    }
}
