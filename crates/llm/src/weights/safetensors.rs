//! Reads the header of a safetensors file and the index of a sharded one; it reads no tensor data.
//!
//! Format: <https://github.com/huggingface/safetensors>. The crate of that name parses the header; every offset is checked
//! here again, with figures.

use std::collections::BTreeMap;

use billion_kernels::Format;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::{Entry, Parsed};

/// Names the shard of each tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// As the reference implementation has it (100 MB).
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// More than any model has; the format knows no limit.
const MAX_DIMS: usize = 8;

/// Adds the tensors of a file, the `map`-th of its model, to `parsed`. The error is the problem, without the path.
pub(super) fn parse(bytes: &[u8], map: usize, parsed: &mut Parsed) -> Result<(), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!(
            "the file has {} bytes, fewer than the 8 that a safetensors file starts with; download it again",
            bytes.len()
        ));
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(format!(
            "not a safetensors file, or damaged: it says that its header has {header_bytes} bytes, and at most \
             {MAX_HEADER_BYTES} are allowed"
        ));
    }
    let Some((header, data)) = rest.split_at_checked(header_bytes as usize) else {
        return Err(format!(
            "the file is truncated: its header ends at byte {}, the file has {}; download it again",
            header_bytes + 8,
            bytes.len()
        ));
    };
    let header: Metadata = serde_json::from_slice(header).map_err(|error| {
        format!("the file is damaged: its header is not valid ({error}); download it again")
    })?;
    let data_start = bytes.len() - data.len();
    for (name, info) in header.tensors() {
        let (start, end) = info.data_offsets;
        if info.shape.len() > MAX_DIMS {
            return Err(format!(
                "tensor {name} has {} dimensions; at most {MAX_DIMS} are read",
                info.shape.len()
            ));
        }
        let needed = info
            .shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim))
            .and_then(|elements| elements.checked_mul(info.dtype.bitsize()))
            .ok_or_else(|| format!("tensor {name}: shape {:?} is too large", info.shape))?
            .div_ceil(8);
        if end < start || end - start != needed {
            return Err(format!(
                "tensor {name}: {} {:?} takes {needed} bytes, but the header gives it bytes {start} to {end}; the \
                 file is damaged, download it again",
                dtype_name(info.dtype),
                info.shape
            ));
        }
        if end > data.len() {
            return Err(format!(
                "the file is truncated: tensor {name} ends at byte {}, the file has {}; download it again",
                end.saturating_add(data_start),
                bytes.len()
            ));
        }
        let entry = Entry {
            map,
            start: data_start + start,
            len: needed,
            shape: info.shape.clone(),
            format: match info.dtype {
                Dtype::F32 => Ok(Format::F32),
                Dtype::F16 => Ok(Format::F16),
                Dtype::BF16 => Ok(Format::BF16),
                other => Err(dtype_name(other)),
            },
        };
        if parsed.tensors.insert(name.clone(), entry).is_some() {
            return Err(format!(
                "tensor {name} is in two files of the model; delete the one that does not belong to it"
            ));
        }
    }
    Ok(())
}

fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}")
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that an index names, each with one of its tensors. A name that leaves the folder is refused.
pub(super) fn shards(index: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| format!("not a valid index of shards ({error}); download it again"))?;
    let mut shards = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        if file.contains(['/', '\\']) || !file.ends_with(".safetensors") {
            return Err(format!(
                "tensor {tensor} is said to be in {file:?}, which is not a safetensors file of this folder"
            ));
        }
        shards.entry(file).or_insert(tensor);
    }
    if shards.is_empty() {
        return Err("the index of shards names no tensors; download it again".to_owned());
    }
    Ok(shards)
}
