//! The packed layout of quantized weights, shared by every SIMD instruction set.
//!
//! A tile is 16 rows. For each block of 32 columns it holds 8 vectors of 64 bytes: vector `j` has, for each row in
//! turn, the 4 integers of columns `4 j .. 4 j + 4`, so that a 4-byte dot product (`vpdpbusd`, `sdot`) has rows in its
//! lanes and no sums across lanes are ever needed. Integers keep their bits, in planes one after another:
//! - 8 bits: the vectors themselves;
//! - 4 bits (also the low part of 5 and 6): byte vector `v` of 4 holds vector `v` low and `v + 4` high;
//! - 2 bits (the low part of 3, the high part of 6): byte vector `v` of 2 holds vector `v + 2 s` at bit `2 s`;
//! - 1 bit (the high part of 3 and 5): the one byte vector holds vector `j` at bit `j`.
//!
//! Scales lie in their own plane, 16 rows side by side for each block, as in the source (f16, or small integers with
//! f16 scales for 256 columns in a third plane), so packed weights take the bits of the file. Rows are padded to tiles.

use crate::buffer::Buffer;
use crate::parts::Parts;
use crate::scalar::blocks::{Block, Scheme, read_block, scheme, value};
use crate::{Format, Pool};
use half::f16;

/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// Source bytes that one chunk of packing takes at least.
const PACK_CHUNK_BYTES: usize = 1 << 18;

/// A quantized matrix in tiles.
pub(crate) struct Tiles {
    pub format: Format,
    pub bits: usize,
    pub scheme: Scheme,
    pub offset: i32,
    /// Blocks of 32 in a row.
    pub blocks: usize,
    /// `[tile][block]`, `bits * 64` bytes each.
    pub quants: Buffer,
    /// `[tile][block]`, [`scale_bytes`] each.
    pub scales: Buffer,
    /// `[tile][block of 256]`, [`super_bytes`] each.
    pub supers: Buffer,
}

/// Bytes of scales of a tile in a block of 32.
pub(crate) const fn scale_bytes(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Min32 => 64,
        Scheme::Offset32 | Scheme::Super32 | Scheme::Super16Offset | Scheme::Super16Min => 32,
    }
}

/// Bytes of f16 scales of a tile in a block of 256.
pub(crate) const fn super_bytes(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Offset32 | Scheme::Min32 => 0,
        Scheme::Super16Offset => 32,
        Scheme::Super32 | Scheme::Super16Min => 64,
    }
}

impl Tiles {
    /// Packs `rows` rows of a quantized `format`; the sizes have been checked.
    pub(crate) fn pack(
        pool: &Pool,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
        pack_tile: impl Fn(&Self, &[u8], TileParts<'_>) + Sync,
    ) -> Self {
        let (bits, offset, scheme) = scheme(format).expect("only quantized formats are packed so");
        let blocks = cols / 32;
        let tiles = rows.div_ceil(TILE);
        let mut packed = Self {
            format,
            bits: bits as usize,
            scheme,
            offset,
            blocks,
            quants: Buffer::of_weights(tiles * blocks * bits as usize * 64),
            scales: Buffer::of_weights(tiles * blocks * scale_bytes(scheme)),
            supers: Buffer::of_weights(tiles * (blocks / 8) * super_bytes(scheme)),
        };
        if tiles == 0 || blocks == 0 {
            return packed;
        }
        let source_bytes = bytes.len() / rows * TILE;
        let (mut quants, mut scales, mut supers) = (
            std::mem::replace(&mut packed.quants, Buffer::of_weights(0)),
            std::mem::replace(&mut packed.scales, Buffer::of_weights(0)),
            std::mem::replace(&mut packed.supers, Buffer::of_weights(0)),
        );
        {
            let (q, s, p) = (
                Parts::new(&mut quants),
                Parts::new(&mut scales),
                Parts::new(&mut supers),
            );
            let (q_len, s_len, p_len) = (
                blocks * packed.bits * 64,
                blocks * scale_bytes(scheme),
                blocks / 8 * super_bytes(scheme),
            );
            let per_chunk = (PACK_CHUNK_BYTES / source_bytes).max(1);
            pool.run(tiles.div_ceil(per_chunk), &|chunk| {
                for tile in chunk * per_chunk..((chunk + 1) * per_chunk).min(tiles) {
                    let source =
                        &bytes[tile * source_bytes..((tile + 1) * source_bytes).min(bytes.len())];
                    // SAFETY: each tile has its own ranges, and is packed once.
                    let parts = unsafe {
                        TileParts {
                            quants: q.part(tile * q_len..(tile + 1) * q_len),
                            scales: s.part(tile * s_len..(tile + 1) * s_len),
                            supers: p.part(tile * p_len..(tile + 1) * p_len),
                        }
                    };
                    pack_tile(&packed, source, parts);
                }
            });
        }
        (packed.quants, packed.scales, packed.supers) = (quants, scales, supers);
        packed
    }

    /// Resident bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.quants.len() + self.scales.len() + self.supers.len()
    }

    /// Row `row` as f32, exactly the source's values.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let (tile, r) = (row / TILE, row % TILE);
        let (s_len, p_len) = (scale_bytes(self.scheme), super_bytes(self.scheme));
        for (b, out) in out.chunks_exact_mut(32).enumerate() {
            let at = tile * self.blocks + b;
            let quants = &self.quants[at * self.bits * 64..(at + 1) * self.bits * 64];
            let s = &self.scales[at * s_len..(at + 1) * s_len];
            let p_at = (tile * (self.blocks / 8) + b / 8) * p_len;
            let p = &self.supers[p_at..p_at + p_len];
            for half in 0..2 {
                let (d, dmin, scale, min) = match self.scheme {
                    Scheme::Offset32 => (half_at(s, r), 0.0, 1, 0),
                    Scheme::Min32 => (half_at(s, r), half_at(s, 16 + r), 1, 0),
                    Scheme::Super32 => (half_at(p, r), half_at(p, 16 + r), s[r] as i8, s[16 + r]),
                    Scheme::Super16Offset => (half_at(p, r), 0.0, s[16 * half + r] as i8, 0),
                    Scheme::Super16Min => {
                        let s = s[16 * half + r];
                        (half_at(p, r), half_at(p, 16 + r), (s & 15) as i8, s >> 4)
                    }
                };
                for (i, out) in out[16 * half..16 * half + 16].iter_mut().enumerate() {
                    let q = self.integer(quants, r, 16 * half + i);
                    *out = value(self.scheme, self.offset, q, d, dmin, scale, min);
                }
            }
        }
    }

    /// The integer of row `r` and column `col` of a block.
    fn integer(&self, block: &[u8], r: usize, col: usize) -> u8 {
        let (j, i) = (col / 4, 4 * r + col % 4);
        let four = |plane: &[u8]| (plane[64 * (j % 4) + i] >> (4 * (j / 4))) & 15;
        let two = |plane: &[u8]| (plane[64 * (j % 2) + i] >> (2 * (j / 2))) & 3;
        let one = |plane: &[u8]| (plane[i] >> j) & 1;
        match self.bits {
            2 => two(block),
            3 => two(block) | (one(&block[128..]) << 2),
            4 => four(block),
            5 => four(block) | (one(&block[256..]) << 4),
            6 => four(block) | (two(&block[256..]) << 4),
            _ => block[64 * j + i],
        }
    }
}

fn half_at(bytes: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32()
}

/// Where one tile goes.
pub(crate) struct TileParts<'a> {
    pub quants: &'a mut [u8],
    pub scales: &'a mut [u8],
    pub supers: &'a mut [u8],
}

/// Packs the up to 16 rows of `source` into a tile. Inlined, so that callers compile it for their instruction set.
#[inline(always)]
pub(crate) fn pack_tile(tiles: &Tiles, source: &[u8], parts: TileParts<'_>) {
    let format = tiles.format;
    let elems = format.block_elems();
    let row_bytes = tiles.blocks * 32 / elems * format.block_bytes();
    let rows = source.len() / row_bytes;
    let (q_len, s_len, p_len) = (
        tiles.bits * 64,
        scale_bytes(tiles.scheme),
        super_bytes(tiles.scheme),
    );
    let empty = Block {
        scales: [0; 16],
        ..Block::EMPTY
    };
    let mut of_rows = [const { Block::EMPTY }; TILE];
    of_rows[rows..].fill_with(|| empty.clone());
    for b in 0..tiles.blocks * 32 / elems {
        for (r, block) in of_rows[..rows].iter_mut().enumerate() {
            let at = r * row_bytes + b * format.block_bytes();
            read_block(format, &source[at..at + format.block_bytes()], block);
        }
        for part in 0..elems / 32 {
            let at = b * (elems / 32) + part;
            pack_integers(
                tiles.bits,
                &of_rows,
                32 * part,
                &mut parts.quants[at * q_len..(at + 1) * q_len],
            );
            let scales = &mut parts.scales[at * s_len..(at + 1) * s_len];
            for (r, block) in of_rows.iter().enumerate() {
                match tiles.scheme {
                    Scheme::Offset32 => put_half(scales, r, block.d),
                    Scheme::Min32 => {
                        put_half(scales, r, block.d);
                        put_half(scales, 16 + r, block.dmin);
                    }
                    Scheme::Super32 => {
                        scales[r] = block.scales[2 * part] as u8;
                        scales[16 + r] = block.mins[2 * part];
                    }
                    Scheme::Super16Offset => {
                        scales[r] = block.scales[2 * part] as u8;
                        scales[16 + r] = block.scales[2 * part + 1] as u8;
                    }
                    Scheme::Super16Min => {
                        for half in 0..2 {
                            let g = 2 * part + half;
                            scales[16 * half + r] = block.scales[g] as u8 | (block.mins[g] << 4);
                        }
                    }
                }
            }
        }
        if p_len > 0 {
            let supers = &mut parts.supers[b * p_len..(b + 1) * p_len];
            for (r, block) in of_rows.iter().enumerate() {
                put_half(supers, r, block.d);
                if p_len == 64 {
                    put_half(supers, 16 + r, block.dmin);
                }
            }
        }
    }
}

#[inline(always)]
fn put_half(out: &mut [u8], index: usize, value: f16) {
    out[2 * index..2 * index + 2].copy_from_slice(&value.to_le_bytes());
}

/// Columns `first .. first + 32` of 16 rows into planes.
#[inline(always)]
fn pack_integers(bits: usize, rows: &[Block; TILE], first: usize, out: &mut [u8]) {
    let mut t = [[0_u8; 64]; 8];
    for (r, block) in rows.iter().enumerate() {
        let q = &block.q[first..first + 32];
        for j in 0..8 {
            t[j][4 * r..4 * r + 4].copy_from_slice(&q[4 * j..4 * j + 4]);
        }
    }
    match bits {
        2 => pack_two(&t, 0, out),
        3 => {
            pack_two(&t, 0, out);
            pack_one(&t, 2, &mut out[128..]);
        }
        4 => pack_four(&t, out),
        5 => {
            pack_four(&t, out);
            pack_one(&t, 4, &mut out[256..]);
        }
        6 => {
            pack_four(&t, out);
            pack_two(&t, 4, &mut out[256..]);
        }
        _ => out.as_chunks_mut().0.copy_from_slice(&t),
    }
}

#[inline(always)]
fn pack_four(t: &[[u8; 64]; 8], out: &mut [u8]) {
    for v in 0..4 {
        let out = &mut out[64 * v..64 * v + 64];
        for i in 0..64 {
            out[i] = (t[v][i] & 15) | (t[v + 4][i] << 4);
        }
    }
}

/// Two bits of each integer, from bit `from`.
#[inline(always)]
fn pack_two(t: &[[u8; 64]; 8], from: usize, out: &mut [u8]) {
    for v in 0..2 {
        let out = &mut out[64 * v..64 * v + 64];
        for i in 0..64 {
            out[i] = (0..4).fold(0, |byte, s| {
                byte | (((t[v + 2 * s][i] >> from) & 3) << (2 * s))
            });
        }
    }
}

/// One bit of each integer, bit `from`.
#[inline(always)]
fn pack_one(t: &[[u8; 64]; 8], from: usize, out: &mut [u8]) {
    let out = &mut out[..64];
    for i in 0..64 {
        out[i] = (0..8).fold(0, |byte, j| byte | (((t[j][i] >> from) & 1) << j));
    }
}
