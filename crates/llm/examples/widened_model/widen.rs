//! Function-preserving growth of a Llama: more features, heads, hidden numbers and layers that change no logit (the idea of
//! Net2Net, Chen et al. 2016, arXiv 1511.05641).
//!
//! - **Residual stream.** Features behind the source's stay 0: nothing writes them (rows of zeros in the embedding's columns,
//!   `attn_output` and `ffn_down`), so columns that read them are random. RMS norm then means over more numbers: with
//!   s = source width / width its weights are multiplied by sqrt(s) and its epsilon by s.
//! - **Heads.** Each query head keeps a key head with its own keys, which is repeated where groups are smaller than the
//!   source's. Heads that are added compute with random weights and meet columns of zeros in `attn_output`.
//! - **MLP.** Rows that are added to gate and up are random and meet columns of zeros in `ffn_down`.
//! - **Layers.** Those added, evenly among the source's, are random but for `attn_output` and `ffn_down`, which are zeros.
//!
//! `twice` takes away what rounding to few bits adds: features, heads and hidden numbers of the source are there two times,
//! and whatever reads them has the source's weights at the first and, rounded on its own, what rounding lost at the second.
//! So a Q4_0 file computes with some 8 bits, and only `noise` sets it apart from the source.
//!
//! Random weights have the standard deviation of the source's matrix. Noise is Gaussian, a part of each matrix's own
//! standard deviation, on the source's part of `attn_q`, `attn_k`, `attn_v`, `attn_output`, `ffn_gate`, `ffn_up` and
//! `ffn_down`; it depends on the seed and the place in the source only, so every shape with a seed computes one function.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;

use billion_kernels::{Format, Isa, Pool, dequantize, ops, quantize_on};
use billion_llm::models;
use billion_llm::spec::{DecoderSpec, Norm, TensorView};
use billion_llm::weights::{Container, MetaValue, Weights};

use crate::gguf_file::{ALIGNMENT, Line, Random, Recipe, head, more_bits};

type Failure = Box<dyn Error>;

/// Numbers that are held as f32 and in their format at once.
const BATCH: usize = 4 << 20;
/// Numbers that a thread takes at a time.
const CHUNK: usize = 64 << 10;

/// What becomes of the source; its own numbers where nothing is said.
#[derive(Clone, Debug)]
pub struct Options {
    /// Width of the residual stream.
    pub hidden: Option<usize>,
    /// Layers, those added included.
    pub layers: Option<usize>,
    /// Width inside the MLP; if only `hidden` is given, in the source's proportion.
    pub ffn: Option<usize>,
    /// Query heads; if only `hidden` is given, as many as fill it.
    pub heads: Option<usize>,
    /// Key heads; if only `heads` is given or follows, a quarter of them.
    pub kv_heads: Option<usize>,
    /// Standard deviation of the noise, as a part of each matrix's own.
    pub noise: f32,
    pub seed: u64,
    /// Hold the source's part two times, the second with what rounding the first has lost.
    pub twice: bool,
    /// Layers that are dropped: those before the last one, which matter least (Gromov et al. 2024, arXiv 2403.17887).
    pub prune: usize,
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hidden: None,
            layers: None,
            ffn: None,
            heads: None,
            kv_heads: None,
            noise: 0.0,
            seed: 0,
            twice: false,
            prune: 0,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What was written.
pub struct Written {
    pub parameters: usize,
    pub bytes: u64,
    /// For people.
    pub shape: String,
}

/// Sizes of the result.
struct Shape {
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    /// Places of the source's query heads; those of the second time behind those of the first.
    query_heads: Vec<usize>,
    /// Source of each key head; none for one that is added.
    key_heads: Vec<Option<usize>>,
    /// How often the source's part is there: 1 or 2.
    times: usize,
    /// Source of each layer; none for one that is added.
    layers: Vec<Option<usize>>,
}

impl Shape {
    fn new(source: &DecoderSpec, options: &Options) -> Result<Self, Failure> {
        let times = if options.twice { 2 } else { 1 };
        let at_least = |what: &str, asked: usize, least: usize| {
            if asked < least {
                return Err(format!(
                    "{what}={asked}: the source takes {least}{}; ask for that or more",
                    if times == 2 { ", two times" } else { "" }
                ));
            }
            Ok(asked)
        };
        let hidden = options.hidden.unwrap_or(source.hidden);
        let hidden = at_least("hidden", hidden, taken(source.hidden, times))?;
        let ffn = options.ffn.unwrap_or_else(|| match options.hidden {
            Some(hidden) => (source.ffn * hidden / source.hidden).next_multiple_of(256),
            None => source.ffn,
        });
        let ffn = at_least("ffn", ffn, taken(source.ffn, times))?;
        let heads = match (options.heads, options.hidden) {
            (Some(heads), _) => heads,
            (None, Some(hidden)) => (hidden / source.head_dim).max(source.heads),
            (None, None) => source.heads,
        };
        let heads = at_least("heads", heads, times * source.heads)?;
        let kv_heads = match options.kv_heads {
            Some(kv_heads) => kv_heads,
            None if heads == source.heads => source.kv_heads,
            None if heads.is_multiple_of(4) => heads / 4,
            None => heads,
        };
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(
                format!("heads={heads} are no whole groups for kv_heads={kv_heads}").into(),
            );
        }
        let (query_heads, key_heads) = place_heads(source, heads, kv_heads, times)?;

        // The last layer stays.
        if options.prune >= source.layers {
            return Err(format!(
                "prune={}: the source has {} layers and one must stay",
                options.prune, source.layers
            )
            .into());
        }
        let left = source.layers - options.prune;
        let kept: Vec<usize> = (0..left - 1).chain([source.layers - 1]).collect();
        let layers = at_least("layers", options.layers.unwrap_or(left), left)?;
        let mut of_source = vec![None; layers];
        for (i, &layer) in kept.iter().enumerate() {
            of_source[i * layers / left] = Some(layer);
        }
        Ok(Self {
            hidden,
            ffn,
            heads,
            kv_heads,
            query_heads,
            key_heads,
            times,
            layers: of_source,
        })
    }
}

/// Features or hidden numbers up to the end of the last time that the source's `count` are there.
fn taken(count: usize, times: usize) -> usize {
    (times - 1) * second(count) + count
}

/// Where the second time begins: at a whole block of every format, so that the first is rounded without it.
fn second(count: usize) -> usize {
    count.next_multiple_of(256)
}

/// Places of the source's query heads among `heads`, and the source of each of `kv_heads`, so that each query head stays
/// with its keys.
fn place_heads(
    source: &DecoderSpec,
    heads: usize,
    kv_heads: usize,
    times: usize,
) -> Result<(Vec<usize>, Vec<Option<usize>>), Failure> {
    let (group, source_group) = (heads / kv_heads, source.heads / source.kv_heads);
    // Key heads that each of the source's needs.
    let copies = source_group.div_ceil(group);
    let needed = times * copies * source.kv_heads;
    if needed > kv_heads {
        return Err(format!(
            "heads={heads} kv_heads={kv_heads}: with {group} query heads a key head, the source's groups of {source_group} \
             take {needed} key heads; ask for that or more"
        )
        .into());
    }
    let queries = (0..times * source.heads)
        .map(|head| {
            let (of, i) = (head / source_group, head % source_group);
            (of * copies + i / group) * group + i % group
        })
        .collect();
    let keys = (0..kv_heads)
        .map(|key| Some(key / copies % source.kv_heads).filter(|_| key < needed))
        .collect();
    Ok((queries, keys))
}

/// Where the source's rows or columns lie in a larger matrix.
struct Axis {
    len: usize,
    parts: Vec<Part>,
}

/// A stretch of the source and its place. Places may repeat a stretch.
struct Part {
    places: Range<usize>,
    /// First row or column of the source.
    start: usize,
    /// It is there the second time.
    again: bool,
}

impl Axis {
    /// The first `of_source` are the source's, and as many behind them where it is there two times.
    fn first(len: usize, of_source: usize, times: usize) -> Self {
        let parts = (0..times).map(|time| {
            let place = time * second(of_source);
            Part {
                places: place..place + of_source,
                start: 0,
                again: time > 0,
            }
        });
        Self {
            len,
            parts: parts.collect(),
        }
    }

    /// Heads of `dim` numbers: (place, head of the source, whether it is there the second time).
    fn heads(count: usize, dim: usize, placed: impl Iterator<Item = (usize, usize, bool)>) -> Self {
        Self {
            len: count * dim,
            parts: placed
                .map(|(place, head, again)| Part {
                    places: place * dim..(place + 1) * dim,
                    start: head * dim,
                    again,
                })
                .collect(),
        }
    }

    fn of_source(&self, at: usize) -> Option<usize> {
        let part = self.parts.iter().find(|part| part.places.contains(&at))?;
        Some(at - part.places.start + part.start)
    }
}

/// What stands where the source has nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filler {
    Random,
    Zeros,
}

/// How a tensor's numbers come about.
enum Numbers {
    Matrix {
        rows: Axis,
        cols: Axis,
        filler: Filler,
        /// Only filler: of a layer that is added.
        added: bool,
        /// Columns that are there again hold what rounding the first has lost, not the same.
        rest: bool,
        noise: f32,
    },
    /// A norm's weights at these places, times this; 1 elsewhere.
    Norm(Axis, f32),
    Same,
}

/// A tensor to be written.
struct Tensor<'a> {
    name: String,
    shape: Vec<usize>,
    format: Format,
    /// What it is made from, or of what size its random numbers are.
    source: TensorView<'a>,
    numbers: Numbers,
}

/// Writes `source`, grown as `options` say, in the formats of `recipe`.
pub fn widen(
    source: &Weights,
    out: &Path,
    recipe: &str,
    options: &Options,
) -> Result<Written, Failure> {
    let recipe = Recipe::parse(recipe)?;
    let spec = models::describe(source)?.spec;
    let Norm::Rms { eps } = spec.norm else {
        return Err("the source has no RMS norm: only a Llama can be widened".into());
    };
    if spec.architecture != "llama" || source.container() != Container::Gguf {
        return Err(format!(
            "the source is a {} of {:?}: only a Llama in a GGUF file can be widened",
            spec.architecture,
            source.container()
        )
        .into());
    }
    if !(options.noise >= 0.0 && options.noise.is_finite()) {
        return Err(format!("noise={}: expected 0 or more", options.noise).into());
    }
    let shape = Shape::new(&spec, options)?;
    let tensors = plan(source, &spec, &shape, recipe, options.noise)?;
    let entries = entries(source, &spec, &shape, recipe, eps);
    let lines: Vec<Line<'_>> = tensors
        .iter()
        .map(|tensor| Line {
            name: &tensor.name,
            shape: &tensor.shape,
            format: tensor.format,
        })
        .collect();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(out)?);
    file.write_all(&head(&entries, &lines)?)?;
    let pool = Pool::new(options.threads);
    for tensor in &tensors {
        let bytes = write_tensor(tensor, options.seed, &pool, &mut file)?;
        file.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    file.flush()?;
    let added = shape.layers.iter().filter(|layer| layer.is_none()).count();
    Ok(Written {
        parameters: tensors
            .iter()
            .map(|tensor| tensor.shape.iter().product::<usize>())
            .sum(),
        bytes: std::fs::metadata(out)?.len(),
        shape: format!(
            "hidden {}, layers {} ({added} added, {} dropped), heads {} of {}, key heads {}, ffn {}, noise {}{}",
            shape.hidden,
            shape.layers.len(),
            options.prune,
            shape.heads,
            spec.head_dim,
            shape.kv_heads,
            shape.ffn,
            options.noise,
            if options.twice { ", twice" } else { "" }
        ),
    })
}

/// The source's metadata with the new sizes.
fn entries(
    source: &Weights,
    spec: &DecoderSpec,
    shape: &Shape,
    recipe: Recipe,
    eps: f32,
) -> Vec<(String, MetaValue)> {
    let count = |number: usize| MetaValue::U64(number as u64);
    let part = (shape.times * spec.hidden) as f64 / shape.hidden as f64;
    let new = [
        ("general.name", MetaValue::Text("widened".to_owned())),
        ("general.file_type", count(recipe.file_type as usize)),
        ("llama.embedding_length", count(shape.hidden)),
        ("llama.block_count", count(shape.layers.len())),
        ("llama.feed_forward_length", count(shape.ffn)),
        ("llama.attention.head_count", count(shape.heads)),
        ("llama.attention.head_count_kv", count(shape.kv_heads)),
        ("llama.attention.key_length", count(spec.head_dim)),
        ("llama.attention.value_length", count(spec.head_dim)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            MetaValue::F64(f64::from(eps) * part),
        ),
    ];
    let mut entries: Vec<(String, MetaValue)> = source
        .metadata_keys()
        .filter(|key| new.iter().all(|(name, _)| name != key))
        .filter(|key| {
            !key.starts_with("split.") && !["general.alignment", "general.size_label"].contains(key)
        })
        .filter_map(|key| Some((key.to_owned(), source.metadata(key)?.clone())))
        .collect();
    let sizes = new
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    entries.extend(sizes);
    entries.sort_by(|(a, _), (b, _)| {
        // The architecture comes first, by which readers know the other keys.
        let later = |key: &str| key != "general.architecture";
        (later(a), a).cmp(&(later(b), b))
    });
    entries
}

/// The tensors in file order.
fn plan<'a>(
    source: &'a Weights,
    spec: &DecoderSpec,
    shape: &Shape,
    recipe: Recipe,
    noise: f32,
) -> Result<Vec<Tensor<'a>>, Failure> {
    let hidden = || Axis::first(shape.hidden, spec.hidden, shape.times);
    let ffn = || Axis::first(shape.ffn, spec.ffn, shape.times);
    let vocab = || Axis::first(spec.vocab_size, spec.vocab_size, 1);
    let queries = || {
        let placed = shape.query_heads.iter().enumerate();
        let placed = placed.map(|(head, &place)| (place, head % spec.heads, head >= spec.heads));
        Axis::heads(shape.heads, spec.head_dim, placed)
    };
    let keys = || {
        let placed = shape.key_heads.iter().enumerate();
        let placed = placed.filter_map(|(place, head)| Some((place, (*head)?, false)));
        Axis::heads(shape.kv_heads, spec.head_dim, placed)
    };
    let norm = ((shape.times * spec.hidden) as f32 / shape.hidden as f32).sqrt();
    let mut list = Vec::new();
    let mut used = 0;
    let mut add = |name: String, from: &str, format: Format, numbers: Numbers| {
        let view = source.require(from)?;
        let (dims, format) = match &numbers {
            Numbers::Matrix { rows, cols, .. } => {
                (vec![rows.len, cols.len], fallback(format, cols.len))
            }
            Numbers::Norm(..) => (vec![shape.hidden], Format::F32),
            Numbers::Same => (view.shape.clone(), view.format),
        };
        list.push(Tensor {
            name,
            shape: dims,
            format,
            source: view,
            numbers,
        });
        Ok::<(), Failure>(())
    };
    let matrix = |rows, cols, filler, added, noise| Numbers::Matrix {
        rows,
        cols,
        filler,
        added,
        rest: true,
        noise,
    };
    let table = if spec.tied_head {
        recipe.head
    } else {
        recipe.base
    };
    let name = "token_embd.weight";
    let numbers = Numbers::Matrix {
        rows: vocab(),
        cols: hidden(),
        filler: Filler::Zeros,
        added: false,
        rest: false,
        noise: 0.0,
    };
    add(name.to_owned(), name, table, numbers)?;
    let name = "rope_freqs.weight";
    if source.contains(name) {
        add(name.to_owned(), name, Format::F32, Numbers::Same)?;
        used += 1;
    }
    let layers = shape.layers.len();
    let mut like = 0;
    for (layer, of_source) in shape.layers.iter().enumerate() {
        like = of_source.unwrap_or(like);
        let added = of_source.is_none();
        let mixed = if more_bits(layer, layers) {
            recipe.high
        } else {
            recipe.base
        };
        let (random, zeros) = (Filler::Random, Filler::Zeros);
        let parts = [
            ("attn_norm", recipe.base, Numbers::Norm(hidden(), norm)),
            (
                "attn_q",
                recipe.base,
                matrix(queries(), hidden(), random, added, noise),
            ),
            (
                "attn_k",
                recipe.base,
                matrix(keys(), hidden(), random, added, noise),
            ),
            (
                "attn_v",
                mixed,
                matrix(keys(), hidden(), random, added, noise),
            ),
            (
                "attn_output",
                recipe.base,
                matrix(hidden(), queries(), zeros, added, noise),
            ),
            ("ffn_norm", recipe.base, Numbers::Norm(hidden(), norm)),
            (
                "ffn_gate",
                recipe.base,
                matrix(ffn(), hidden(), random, added, noise),
            ),
            (
                "ffn_up",
                recipe.base,
                matrix(ffn(), hidden(), random, added, noise),
            ),
            (
                "ffn_down",
                mixed,
                matrix(hidden(), ffn(), zeros, added, noise),
            ),
        ];
        for (part, format, numbers) in parts {
            let name = format!("blk.{layer}.{part}.weight");
            add(name, &format!("blk.{like}.{part}.weight"), format, numbers)?;
        }
    }
    // The embedding, as the head, meets every feature as often as it is there.
    let head_norm = if spec.tied_head {
        norm / shape.times as f32
    } else {
        norm
    };
    add(
        "output_norm.weight".to_owned(),
        "output_norm.weight",
        Format::F32,
        Numbers::Norm(hidden(), head_norm),
    )?;
    if !spec.tied_head {
        let name = "output.weight";
        let numbers = matrix(vocab(), hidden(), Filler::Random, false, 0.0);
        add(name.to_owned(), name, recipe.head, numbers)?;
        used += 1;
    }
    used += 2 + 9 * spec.layers;
    if source.names().count() != used {
        let unknown = source
            .names()
            .find(|name| name.rsplit('.').next() == Some("bias"));
        return Err(format!(
            "the source has {} tensors where a Llama has {used}{}: only one without biases can be widened",
            source.names().count(),
            unknown.map_or(String::new(), |name| format!(" ({name} is one more)"))
        )
        .into());
    }
    Ok(list)
}

/// What stands in where rows are no whole blocks (llama.cpp's `tensor_type_fallback`).
fn fallback(wanted: Format, cols: usize) -> Format {
    let fits = |format: Format| cols.is_multiple_of(format.block_elems());
    let smaller = match wanted {
        Format::Q4_K => Format::Q5_0,
        Format::Q6_K => Format::Q8_0,
        other => other,
    };
    match wanted {
        _ if fits(wanted) => wanted,
        _ if fits(smaller) => smaller,
        _ => Format::F16,
    }
}

/// Writes the numbers, a batch of rows at a time on all threads; gives their bytes.
fn write_tensor(
    tensor: &Tensor<'_>,
    seed: u64,
    pool: &Pool,
    out: &mut impl std::io::Write,
) -> Result<usize, Failure> {
    let (cols, outer) = tensor.shape.split_last().ok_or("a tensor has a shape")?;
    let (cols, rows) = (*cols, outer.iter().product::<usize>());
    let row_bytes = tensor.format.row_bytes(cols).ok_or("rows are blocks")?;
    let spread = spread(&tensor.source);
    let isa = Isa::detect();
    let mut buffer = Vec::new();
    let in_chunk = (CHUNK / cols).max(1);
    let in_batch = (BATCH / cols).max(1);
    for first in (0..rows).step_by(in_batch) {
        buffer.resize(in_batch.min(rows - first) * row_bytes, 0);
        let mut chunks: Vec<&mut [u8]> = buffer.chunks_mut(in_chunk * row_bytes).collect();
        ops::for_each(pool, &mut chunks, &|index, chunk| {
            let mut numbers = vec![0.0; cols];
            let mut scratch = Vec::new();
            for (i, bytes) in chunk.chunks_exact_mut(row_bytes).enumerate() {
                let row = first + index * in_chunk + i;
                tensor.row(row, seed, spread, &mut numbers, &mut scratch);
                quantize_on(isa, tensor.format, &numbers, bytes);
            }
        });
        out.write_all(&buffer)?;
    }
    Ok(rows * row_bytes)
}

/// Standard deviation of a matrix, from about a hundred of its rows.
fn spread(view: &TensorView<'_>) -> f32 {
    let rows = if view.shape.len() == 2 {
        view.shape[0]
    } else {
        1
    };
    let mut numbers = Vec::new();
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for row in (0..rows).step_by(rows.div_ceil(128)) {
        source_row(view, row, &mut numbers);
        for &x in &numbers {
            let x = f64::from(x);
            sum += x;
            squares += x * x;
        }
        count += numbers.len() as f64;
    }
    let mean = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt() as f32
}

/// A row as numbers.
fn source_row(view: &TensorView<'_>, row: usize, out: &mut Vec<f32>) {
    let cols = *view.shape.last().expect("a tensor has a shape");
    let bytes = view.format.row_bytes(cols).expect("checked at opening");
    out.resize(cols, 0.0);
    dequantize(
        view.format,
        &view.bytes[row * bytes..(row + 1) * bytes],
        out,
    );
}

impl Tensor<'_> {
    /// The numbers of row `row`, shape (cols); `spread` is the source's standard deviation.
    fn row(&self, row: usize, seed: u64, spread: f32, out: &mut [f32], own: &mut Vec<f32>) {
        match &self.numbers {
            Numbers::Same => {
                source_row(&self.source, row, own);
                out.copy_from_slice(own);
            }
            Numbers::Norm(places, scale) => {
                source_row(&self.source, 0, own);
                for weight in own.iter_mut() {
                    *weight *= scale;
                }
                out.fill(1.0);
                for part in &places.parts {
                    part.put(own, out);
                }
            }
            Numbers::Matrix {
                rows,
                cols,
                filler,
                added,
                rest,
                noise,
            } => {
                match filler {
                    Filler::Zeros => out.fill(0.0),
                    Filler::Random => {
                        Random(place(seed, &self.name, row)).fill_evenly(out, spread);
                    }
                }
                let of_source = rows.of_source(row).filter(|_| !added);
                let Some(of_source) = of_source else { return };
                source_row(&self.source, of_source, own);
                if *noise > 0.0 {
                    let mut random = Random(!place(seed, &self.source.name, of_source));
                    random.add_gaussian(own, noise * spread);
                }
                let (again, first): (Vec<&Part>, Vec<&Part>) =
                    cols.parts.iter().partition(|part| part.again);
                for part in &first {
                    part.put(own, out);
                }
                if *rest && !again.is_empty() {
                    let rounded = self.rounded(out);
                    for part in &first {
                        let lost = &mut own[part.start..part.start + part.places.len()];
                        for (number, rounded) in lost.iter_mut().zip(&rounded[part.places.clone()])
                        {
                            *number -= rounded;
                        }
                    }
                }
                for part in &again {
                    part.put(own, out);
                }
            }
        }
    }

    /// A row as its format has it.
    fn rounded(&self, row: &[f32]) -> Vec<f32> {
        let bytes = self.format.row_bytes(row.len()).expect("rows are blocks");
        let (mut bytes, mut rounded) = (vec![0; bytes], vec![0.0; row.len()]);
        quantize_on(Isa::detect(), self.format, row, &mut bytes);
        dequantize(self.format, &bytes, &mut rounded);
        rounded
    }
}

impl Part {
    /// Its stretch of a row of the source, to its place.
    fn put(&self, own: &[f32], out: &mut [f32]) {
        let stretch = &own[self.start..self.start + self.places.len()];
        out[self.places.clone()].copy_from_slice(stretch);
    }
}

/// A seed for a row of a tensor (FNV-1a over its name).
fn place(seed: u64, name: &str, row: usize) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Random(hash ^ seed.rotate_left(32)).next() ^ Random(row as u64).next()
}
