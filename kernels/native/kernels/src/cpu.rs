use crate::KernelError;

/// The instruction-set path a backend runs. Chosen once; `FILIGREE_CPU` forces a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cpu {
    /// No SIMD beyond what the compiler emits for the baseline target.
    Scalar,
    /// aarch64 baseline SIMD.
    Neon,
    /// AVX2, FMA, F16C and POPCNT together.
    Avx2,
    /// AVX-512 F, BW, VL, DQ, VBMI and VNNI together.
    Avx512,
}

impl Cpu {
    /// The best path of this machine.
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Cpu::Scalar)
    }

    /// Paths this machine can run, lowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)] // On targets without SIMD paths.
        let mut paths = vec![Cpu::Scalar];
        #[cfg(target_arch = "aarch64")]
        paths.push(Cpu::Neon);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("popcnt")
            {
                paths.push(Cpu::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
                {
                    paths.push(Cpu::Avx512);
                }
            }
        }
        paths
    }

    pub fn name(self) -> &'static str {
        match self {
            Cpu::Scalar => "scalar",
            Cpu::Neon => "neon",
            Cpu::Avx2 => "avx2",
            Cpu::Avx512 => "avx512",
        }
    }

    /// A path by name; refuses one that this machine lacks.
    pub fn by_name(name: &str) -> Result<Self, KernelError> {
        let available = Self::available();
        available.iter().copied().find(|path| path.name() == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|path| path.name()).collect();
            KernelError(format!(
                "CPU path '{name}' is not available on this machine; it has {}",
                names.join(", ")
            ))
        })
    }
}
