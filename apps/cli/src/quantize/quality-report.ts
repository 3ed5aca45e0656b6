import { pairs } from '../format/table.js';
import { grouped, percent } from '../format/numbers.js';
import type { Quality } from '../quality/compare-models.js';

/** Figures of the quality as names and values, one pair a line. */
export function qualityText(quality: Quality): string {
  const { windows, tokens, perplexityBefore, perplexityAfter, klMean, kl99, klMax, sameTop } = quality;
  const figure = (value: number): string => value.toPrecision(4);
  return pairs([
    ['compared on', `${grouped(tokens)} tokens of ${windows} windows`],
    ['perplexity', `${figure(perplexityBefore)} → ${figure(perplexityAfter)}`],
    ['KL divergence', `mean ${figure(klMean)}, 99 % ${figure(kl99)}, most ${figure(klMax)} nats`],
    ['same likeliest token', percent(sameTop)],
  ]);
}
