//! Which executable runs models on which device: `billion` on the processor and on a Mac's GPU, `billion-cuda` on NVIDIA's.

use std::path::{Path, PathBuf};

use billion_llm::device::Device;

use crate::api::ApiError;

/// The executable to start for a device. `engine` is `billion`, and `billion-cuda` lies beside it where there is one.
pub(crate) fn engine_of_device(engine: &Path, device: &str) -> Result<PathBuf, ApiError> {
    match known(device)? {
        Device::Cpu => Ok(engine.to_owned()),
        Device::Metal if cfg!(target_os = "macos") => Ok(engine.to_owned()),
        Device::Metal => Err(ApiError::failed(
            "Metal is there on Macs only; use --device cpu",
        )),
        Device::Cuda => {
            let name = format!("billion-cuda{}", std::env::consts::EXE_SUFFIX);
            let path = engine.with_file_name(&name);
            if path.is_file() {
                return Ok(path);
            }
            Err(ApiError::failed(format!(
                "{name}, the engine for NVIDIA GPUs, is not beside billion ({}): build it with `cargo build --release -p \
                 billion-cli --features cuda --bin billion-cuda` (needs CUDA's compiler nvcc) and put it there, or use \
                 --device cpu",
                path.display()
            )))
        }
    }
}

/// The device of that name.
pub(crate) fn known(device: &str) -> Result<Device, ApiError> {
    Device::from_name(device).ok_or_else(|| {
        let names = Device::ALL.map(Device::name).join(", ");
        ApiError::failed(format!(
            "there is no device {device:?}: choose one of {names}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::engine_of_device;

    #[test]
    fn cuda_has_an_executable_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = folder.path().join("billion");
        assert_eq!(engine_of_device(&engine, "cpu").expect("there"), engine);
        let missing = engine_of_device(&engine, "cuda").unwrap_err().message;
        assert!(missing.contains("--bin billion-cuda"), "{missing}");
        assert!(missing.contains("nvcc"), "{missing}");
        let cuda = engine.with_file_name(format!("billion-cuda{}", std::env::consts::EXE_SUFFIX));
        std::fs::write(&cuda, b"").expect("written");
        assert_eq!(engine_of_device(&engine, "cuda").expect("there"), cuda);
        assert_eq!(
            engine_of_device(&engine, "metal").is_ok(),
            cfg!(target_os = "macos")
        );
        let unknown = engine_of_device(&engine, "tpu").unwrap_err().message;
        assert!(unknown.contains("cpu, cuda, metal"), "{unknown}");
    }
}
