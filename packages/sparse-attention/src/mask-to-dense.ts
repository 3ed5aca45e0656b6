import { OptionError } from '@filigree/core-tensor';
import { isVisible, type BlockMask } from './mask.js';

/** Cells per head that {@link maskToDense} agrees to write. */
const most = 2 ** 24;

/**
 * A mask cell by cell, [B, Hq, longest lenQ, longest lenK], 1 where a query sees a key; for tests.
 *
 * @throws OptionError when a head has more than 2^24 cells.
 */
export function maskToDense(mask: BlockMask): Uint8Array {
  const [lengthQ, lengthK] = [mask.lenQ, mask.lenK].map((lengths) => lengths.reduce((a, b) => Math.max(a, b), 0));
  if (lengthQ * lengthK > most)
    throw new OptionError(`maskToDense: ${lengthQ} × ${lengthK} cells per head are more than 2^24; lower the mask instead`);
  const heads = mask.headMap.length;
  const dense = new Uint8Array(mask.batch * heads * lengthQ * lengthK);
  let at = 0;
  for (let batch = 0; batch < mask.batch; batch++)
    for (let head = 0; head < heads; head++)
      for (let query = 0; query < lengthQ; query++)
        for (let key = 0; key < lengthK; key++) dense[at++] = isVisible(mask, batch, head, query, key) ? 1 : 0;
  return dense;
}
