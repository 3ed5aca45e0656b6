import type { SpeedTest } from './speed-test.js';

/** The ratios to llama-bench on the same CPU path that are asked for. */
interface Goals {
  readonly avx512: number;
  readonly avx2: number;
}

type TypeGoals = Readonly<Partial<Record<`${SpeedTest['phase']} ${number}`, Goals>>>;

const decode: Goals = { avx512: 1.5, avx2: 1.3 };

/** By the type of a file, then by phase and tokens. */
const goals: Readonly<Partial<Record<string, TypeGoals>>> = {
  Q4_0: { 'decode 128': decode, 'prefill 512': { avx512: 1.4, avx2: 1.2 } },
  Q4_1: {
    'decode 128': { avx512: 2, avx2: 1.7 },
    'prefill 512': { avx512: 4, avx2: 1.8 },
    'prefill 4096': { avx512: 4, avx2: 2 },
  },
  Q5_0: { 'decode 128': decode, 'prefill 512': { avx512: 2, avx2: 1.2 } },
  Q4_K_M: { 'decode 128': decode, 'prefill 512': { avx512: 2, avx2: 1.2 } },
  Q6_K: { 'decode 128': decode, 'prefill 512': { avx512: 2, avx2: 0.9 } },
  Q8_0: { 'decode 128': decode, 'prefill 512': { avx512: 2, avx2: 0.9 } },
};

/** The ratio to llama-bench asked for of a file of that type on that CPU path; undefined where none is. */
export function speedGoal(type: string, { phase, tokens, context }: SpeedTest, cpuPath: string): number | undefined {
  if (context > 0 || (cpuPath !== 'avx512' && cpuPath !== 'avx2')) return undefined;
  return goals[type]?.[`${phase} ${tokens}`]?.[cpuPath];
}
