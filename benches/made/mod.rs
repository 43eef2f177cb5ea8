//! Text that benches work on: the same with every run, and about as hard to compress as the rows of a real dump.

/// Rows of COPY text, each of about `width` bytes, up to `size` bytes; the last row is whole.
pub fn rows(size: usize, width: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (1 << 31)).unwrap_or_default()
    };
    let words: Vec<String> = (0..4000).map(|_| word(&mut random)).collect();
    let mut text = Vec::with_capacity(size + width);
    let mut id = 0;
    while text.len() < size {
        id += 1;
        let begin = text.len();
        text.extend_from_slice(
            format!("{id}\t2024-03-{:02}\t{}", 1 + id % 28, random() % 100_000).as_bytes(),
        );
        while text.len() - begin < width {
            // As in a language, few words are frequent.
            let rank = random() % (1 + random() % words.len());
            text.push(if random() % 9 == 0 { b'\t' } else { b' ' });
            text.extend_from_slice(words[rank].as_bytes());
        }
        text.push(b'\n');
    }
    text
}

fn word(random: &mut impl FnMut() -> usize) -> String {
    let letters = 2 + random() % 8;
    (0..letters).map(|_| char::from(b"etaoinshrdlucmfwypvbgk"[random() % 22])).collect()
}
