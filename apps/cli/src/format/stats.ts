import type { GenerateStats } from '@filigree/transformer';
import type { Answer } from '../answer.js';
import { bytes, percent, rate, seconds } from './numbers.js';

/** One line about how an answer was computed. */
export function statsLine({ tokens, stats }: Pick<Answer, 'tokens' | 'stats'>): string {
  const { promptTokens, cachedTokens, prefillMs, decodeTokens, decodeMs, density, speculation, kvBytes, peakRssBytes } = stats;
  return [
    `prompt ${promptTokens} tokens in ${seconds(prefillMs)} (${rate(promptTokens, prefillMs)}/s)`,
    ...(cachedTokens > 0 ? [`${cachedTokens} known`] : []),
    `answer ${tokens.length} tokens in ${seconds(decodeMs)} (${rate(decodeTokens, decodeMs)}/s)`,
    `density ${percent(density)}`,
    ...(speculation ? [`drafts ${percent(speculation.accepted / Math.max(1, speculation.drafted))} right`] : []),
    `KV ${bytes(kvBytes)}`,
    `peak ${bytes(peakRssBytes)}`,
  ].join(' · ');
}

/** The stats with the keys that `--json` promises, and no others. */
export function statsJson(stats: GenerateStats): GenerateStats {
  const { promptTokens, cachedTokens, prefillMs, decodeTokens, decodeMs } = stats;
  const { density, attention, speculation, kvBytes, peakRssBytes } = stats;
  const prompt = { promptTokens, cachedTokens, prefillMs };
  return { ...prompt, decodeTokens, decodeMs, density, attention, speculation, kvBytes, peakRssBytes };
}
