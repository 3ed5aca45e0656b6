import type { Session } from '../model/session.js';
import type { LayerAttention } from './attention-meter.js';
import { AttentionTimes, type LayerTimes } from './attention-times.js';

/** What to find out about attention beside the density. */
export interface AttentionMeasure {
  /** Runs every layer of the prompt densely as well, to see which share of the dense softmax mass lies on the keys that were seen. */
  readonly recall?: boolean | undefined;
  /** Profiles the backend; only one run at a time. */
  readonly times?: boolean | undefined;
}

export interface AttentionStats {
  /** Key-query pairs computed over those of dense causal attention. */
  readonly density: number;
  readonly attention: { readonly layers: readonly LayerAttention[] };
}

/** Collects the statistics of a session's run. */
export class StatsReader {
  #times: AttentionTimes | undefined;
  #layerTimes: readonly LayerTimes[] = [];

  constructor(
    private readonly session: Session,
    private readonly measure: AttentionMeasure | undefined,
  ) {}

  /** Starts the profile, if there is to be one; {@link stop} has to follow. */
  start(): void {
    if (this.measure?.times) this.#times = new AttentionTimes(this.session.backend, this.session.decoder.config.layers);
  }

  async stop(): Promise<void> {
    const times = this.#times;
    this.#times = undefined;
    if (times) this.#layerTimes = await times.stop();
  }

  async during<T>(run: () => Promise<T>): Promise<T> {
    this.start();
    try {
      return await run();
    } finally {
      await this.stop();
    }
  }

  /** What is known now, without what is on the device. */
  now(): AttentionStats {
    const { meter } = this.session;
    const layers = meter.layerStats().map((stats, layer) => ({ ...stats, ...this.#layerTimes.at(layer) }));
    return { density: meter.density, attention: { layers } };
  }

  async read(): Promise<AttentionStats> {
    await this.session.meter.read();
    return this.now();
  }
}
