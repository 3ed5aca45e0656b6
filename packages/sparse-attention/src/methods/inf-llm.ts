import { concat, ExecutionError } from '@filigree/core-tensor';
import { checkIntegers, defineMethod } from '../method.js';
import {
  closeBlocks,
  observe,
  representativeScores,
  withRoom,
  type BlockRepresentatives,
} from '../select/block-representatives.js';
import { selectRow } from '../select/select-row.js';
import { selectionIndices } from '../select/selection-indices.js';
import { isShort } from '../select/step.js';
import type { SelectContext, Selector } from '../selector.js';

export interface InfLlmOptions {
  /** Keys that are taken or left together. */
  readonly block: number;
  /** First keys, which everyone sees, in whole blocks. */
  readonly sinks: number;
  /** Newest keys, which everyone sees, in whole blocks. */
  readonly local: number;
  /** Blocks that are seen beside these. */
  readonly topK: number;
  /** Keys of a block that stand for it. */
  readonly repr: number;
}

/**
 * InfLLM: a few keys stand for a block, those that received most attention while they were in the local window. Beside the first and the newest keys, all heads of a layer see the
 * blocks with the greatest products of query and representatives, summed over the heads; products are those at one distance, `local`, however far a block is.
 *
 * Prompts are attended to densely and observed, at 4 · lenQ · local · D operations a query head; of keys that were read elsewhere, by another method or before a fork, all of a block
 * stand for it. A decode step reads the keys of the window twice, a mean per block and head, and the blocks. Keys keep their positions; the paper moves far ones to
 * distance `local`, for lengths beyond training.
 * Xiao et al., "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an Efficient Context Memory", arXiv:2402.04617.
 *
 * @throws OptionError when an option is out of its range.
 */
export function infLlm(options: InfLlmOptions): Selector {
  const { block, sinks, local, topK, repr } = options;
  checkIntegers('inf-llm', { block, local, repr }, 1);
  checkIntegers('inf-llm', { sinks, topK });
  // The window begins anywhere in a block.
  const [first, newest] = [Math.ceil(sinks / block), Math.ceil(local / block) + 1];
  const blocks = topK + first + newest;
  return {
    needsLengths: true,
    select(context) {
      const { layer, lenQ, lenK, lengths, memory } = context;
      if (!lenK) throw new ExecutionError('inf-llm: a recorded step does not know lenK, which blocks go by');
      const name = `inf-llm ${layer}`;
      const before = known(context, name);
      const own = lenK.map((_, element) => {
        const state = withRoom(context, block, before?.[element]);
        observe(context, element, state, local);
        return closeBlocks(context, element, state, options);
      });
      memory?.sequence.keep(name, {
        ...{ parts: [], lenK },
        note: own.map(({ closed }) => closed),
        tensors: own.flatMap(({ received, means }) => [received, means]),
      });
      if (isShort(context, blocks * block) || lenQ.some((count) => count !== 1)) return 'dense';
      const scores = concat(
        own.map((state, element) => representativeScores(context, element, state, local)),
        0,
      );
      const { bits } = selectRow(scores, { lengths, topK: blocks, sinks: first, local: newest, blockK: block });
      return { parts: [selectionIndices(bits, { unit: block, slots: blocks * block, lengths })] };
    },
  };
}

/** What earlier steps have found, of elements that go on where they ended. */
function known({ memory, lenQ, lenK = [] }: SelectContext, name: string): readonly BlockRepresentatives[] | undefined {
  const kept = memory?.sequence.get(name);
  const { note, tensors = [], lenK: ends = [] } = kept ?? {};
  if (!Array.isArray(note) || lenK.some((end, element) => end - lenQ[element] !== ends[element])) return undefined;
  return note.map((closed: number, element) => ({
    closed,
    received: tensors[2 * element],
    means: tensors[2 * element + 1],
  }));
}

/** {@link infLlm} in the catalogue. */
export const infLlmMethod = /* @__PURE__ */ defineMethod({
  id: 'inf-llm',
  title: 'InfLLM: blocks by representative keys',
  paper: 'arXiv:2402.04617',
  phase: 'both',
  training: 'none',
  emits: 'indices',
  options: { block: 128, sinks: 128, local: 4096, topK: 16, repr: 4 },
  policy: (options) => ({ kind: 'selector', selector: infLlm(options) }),
});
