import type { MethodOptions } from '@filigree/sparse-attention';

/** Options with which the tests of all methods run one of them. */
export interface MethodCase {
  /** Those that leave something out of some hundred tokens. */
  readonly options: MethodOptions;
  /** Those that leave nothing out: the result is that of dense attention. */
  readonly dense: MethodOptions;
}

/** Every method of the catalogue; a method that is not here fails its tests. */
export const methodCases: Readonly<Record<string, MethodCase>> = {
  'streaming-llm': { options: { sinks: 3, window: 40 }, dense: { window: 4096 } },
  'sliding-window': { options: { window: 50 }, dense: { window: 4096 } },
};
