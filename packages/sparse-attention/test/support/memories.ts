import { SelectionMemory, type SelectionMemories } from '@filigree/sparse-attention';

/** Memories of one sequence, empty. */
export function memories(): SelectionMemories & { dispose(): void } {
  const [step, sequence] = [new SelectionMemory(), new SelectionMemory()];
  return {
    step,
    sequence,
    dispose() {
      step.dispose();
      sequence.dispose();
    },
  };
}
