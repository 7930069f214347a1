//! Memory-mapped weights: GGUF and safetensors behind one type.
