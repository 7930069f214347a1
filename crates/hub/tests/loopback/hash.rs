//! SHA-1 and SHA-256 (FIPS 180-4) and their hexadecimal form, so that tests of any crate can include the hub without
//! further dependencies. Slow, and only for what tests serve.

/// SHA-256, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    // Fractional parts of the roots of the first primes: cube roots for each round, square roots to begin with.
    let primes = primes(64);
    let rounds: Vec<u32> = primes
        .iter()
        .map(|&p| root_fraction(p, |x| x * x * x))
        .collect();
    let mut state: Vec<u32> = primes[..8]
        .iter()
        .map(|&p| root_fraction(p, |x| x * x))
        .collect();
    for block in blocks(bytes) {
        let mut w = [0u32; 64];
        for (word, four) in w.iter_mut().zip(block.as_ref().chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w[i] = w[i - 16]
                .wrapping_add(s0)
                .wrapping_add(w[i - 7])
                .wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] =
            <[u32; 8]>::try_from(&state[..]).expect("eight words");
        for i in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let t1 = h
                .wrapping_add(s1)
                .wrapping_add((e & f) ^ (!e & g))
                .wrapping_add(rounds[i])
                .wrapping_add(w[i]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
            (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
        }
        for (word, next) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(next);
        }
    }
    hex(&state)
}

/// SHA-1 of git's blob of these bytes, in lower-case hexadecimal.
pub fn git_sha1(bytes: &[u8]) -> String {
    sha1(&[format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat())
}

/// SHA-1, in lower-case hexadecimal.
pub fn sha1(bytes: &[u8]) -> String {
    let mut state = [
        0x67452301u32,
        0xefcdab89,
        0x98badcfe,
        0x10325476,
        0xc3d2e1f0,
    ];
    for block in blocks(bytes) {
        let mut w = [0u32; 80];
        for (word, four) in w.iter_mut().zip(block.as_ref().chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for i in 16..80 {
            w[i] = (w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i / 20 {
                0 => ((b & c) | (!b & d), 0x5a827999),
                1 => (b ^ c ^ d, 0x6ed9eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1bbcdc),
                _ => (b ^ c ^ d, 0xca62c1d6),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(f)
                .wrapping_add(e)
                .wrapping_add(k)
                .wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (word, next) in state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(next);
        }
    }
    hex(&state)
}

fn hex(words: &[u32]) -> String {
    use std::fmt::Write as _;

    words.iter().fold(String::new(), |mut text, word| {
        let _ = write!(text, "{word:08x}");
        text
    })
}

enum Block<'a> {
    Inside(&'a [u8]),
    End([u8; 64]),
}

impl AsRef<[u8]> for Block<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Inside(bytes) => bytes,
            Self::End(bytes) => bytes,
        }
    }
}

/// The message and its padding: a one bit, zeros, and its length in bits.
fn blocks(bytes: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let whole = bytes.chunks_exact(64);
    let rest = whole.remainder();
    let mut end = rest.to_vec();
    end.push(0x80);
    end.resize(if end.len() > 56 { 120 } else { 56 }, 0);
    end.extend_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    let end: Vec<Block> = end
        .chunks_exact(64)
        .map(|block| Block::End(block.try_into().expect("64 bytes")))
        .collect();
    whole.map(Block::Inside).chain(end)
}

fn primes(count: usize) -> Vec<u32> {
    (2u32..)
        .filter(|n| (2..*n).all(|d| n % d != 0))
        .take(count)
        .collect()
}

/// The first 32 bits behind the point of the root of which `power` gives `of`.
fn root_fraction(of: u32, power: impl Fn(u128) -> u128) -> u32 {
    // The largest x of 36 bits whose power, scaled by 2^32 for each factor, is not above `of`.
    let scale = power(1 << 32);
    let mut x: u128 = 0;
    for bit in (0..36).rev() {
        let next = x | (1 << bit);
        if power(next) <= u128::from(of) * scale {
            x = next;
        }
    }
    x as u32
}

#[test]
fn hashes_are_those_of_the_standard() {
    // FIPS 180-4's own examples.
    assert_eq!(
        sha256(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        sha256(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    );
    assert_eq!(sha1(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    // git hash-object of an empty file.
    assert_eq!(git_sha1(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}
