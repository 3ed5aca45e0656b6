import { OptionError } from '@filigree/core-tensor';
import { checkChoice, checkIntegers, defineMethod } from '../method.js';

/**
 * N:M sparse softmax: of every m consecutive keys a query keeps the n largest scores, apart from the first `sinks` and the last `recent` keys, which
 * stay. Groups begin at multiples of m, so that chunks of a prompt do not move them; ties go to the earlier key. Nothing is saved without units that
 * multiply N:M matrices: it shows what such a unit would cost in quality.
 *
 * Chen et al., "Dynamic N:M Fine-grained Structured Sparse Attention Mechanism", arXiv:2203.00091.
 */
export const nmSoftmax = /* @__PURE__ */ defineMethod({
  id: 'nm-softmax',
  title: 'N:M sparse softmax',
  paper: 'arXiv:2203.00091',
  phase: 'prefill',
  training: 'none',
  emits: 'an option of the executor',
  options: { n: 2, m: 4, sinks: 0, recent: 64 },
  policy({ n, m, sinks, recent }) {
    checkIntegers('nm-softmax', { n }, 1);
    checkIntegers('nm-softmax', { sinks, recent });
    const group = checkChoice('nm-softmax', 'm', m, [4, 8]);
    if (n > group) throw new OptionError(`nm-softmax: n is ${n}, a group has ${group}`);
    const scoreNM = { n, m: group, sinks, recent };
    return { kind: 'executor', options: () => ({ scoreNM }) };
  },
});
