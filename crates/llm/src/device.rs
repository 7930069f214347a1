//! Where a model runs, and opening that device with an error that says what to do.
//!
//! CUDA and Metal are candle's, and are there only in builds with the feature of that name.

use candle_core::{DType, Device as Opened, Tensor};

use crate::Error;

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
    /// The GPU of a Mac.
    Metal,
}

impl Device {
    /// Every device, built in or not.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::Metal];

    /// Its name on the command line: "cpu", "cuda", "metal".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// The device of that name; none if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|device| device.name() == name)
    }

    /// This executable was built to run models there.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }

    /// Opens it: the first one of its kind.
    pub fn open(self) -> Result<Opened, Error> {
        if !self.is_built_in() {
            return Err(Error::Unsupported(self.absent().to_owned()));
        }
        // candle ends a thread that asks for Metal where there is none (a virtual machine).
        let opened = std::panic::catch_unwind(|| match self {
            Self::Cpu => Ok(Opened::Cpu),
            Self::Cuda => Opened::new_cuda(0),
            Self::Metal => Opened::new_metal(0),
        });
        let problem = match opened {
            Ok(Ok(device)) => return Ok(device),
            Ok(Err(error)) => format!(" ({})", error.to_string().replace('\n', " ")),
            Err(_) => String::new(),
        };
        let next = match self {
            Self::Cuda => "nvidia-smi says which GPUs the driver sees; --device cpu does without",
            _ => "--device cpu does without",
        };
        Err(Error::Backend(format!(
            "no {} device can be opened{problem}; {next}",
            self.name()
        )))
    }

    /// What to do in a build without it.
    const fn absent(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::Cuda => {
                "this executable was built without CUDA; billion-cuda has it (cargo build --release -p billion-cli \
                 --features cuda --bin billion-cuda), --device cpu does without"
            }
            Self::Metal if cfg!(target_os = "macos") => {
                "this executable was built without Metal; the billion executable of a Mac has it, --device cpu does without"
            }
            Self::Metal => "Metal is there on Macs only; use --device cpu",
        }
    }
}

/// It computes with BF16: GPUs older than NVIDIA's Ampere and early Apple ones do not.
pub(crate) fn computes_bf16(device: &Opened) -> bool {
    let product = || {
        let ones = Tensor::ones((2, 2), DType::F32, device)?.to_dtype(DType::BF16)?;
        let ids = Tensor::new(&[1_u32, 0], device)?;
        let product = ones.index_select(&ids, 0)?.matmul(&ones)?;
        product.to_dtype(DType::F32)?.to_vec2::<f32>()
    };
    product().is_ok_and(|product| product == [[2.0; 2]; 2])
}

#[cfg(test)]
mod tests {
    use super::{Device, computes_bf16};

    #[test]
    fn a_device_that_is_not_there_says_what_to_do() {
        assert!(computes_bf16(&Device::Cpu.open().unwrap()));
        for device in Device::ALL {
            assert_eq!(Device::from_name(device.name()), Some(device));
            match device.open() {
                Ok(opened) => assert_eq!(opened.is_cpu(), device == Device::Cpu),
                Err(error) => assert!(error.to_string().contains("--device cpu"), "{error}"),
            }
        }
        assert_eq!(Device::from_name("tpu"), None);
    }
}
