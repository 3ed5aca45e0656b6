import { cacheDirectory } from './cache.node.js';
import { defaultHubEndpoint } from './hub-url.js';
import type { HubOptions } from './options.js';

/** Options with what the environment says where they are silent. */
export interface HubSettings {
  readonly cacheDir: string;
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly offline: boolean;
}

/** The options, completed from the environment. */
export function hubSettings(options: HubOptions, env: Readonly<Record<string, string | undefined>> = process.env): HubSettings {
  return {
    cacheDir: options.cacheDir ?? cacheDirectory(env),
    endpoint: options.endpoint ?? (env.HF_ENDPOINT || defaultHubEndpoint),
    token: options.token ?? (env.HF_TOKEN || undefined),
    offline: options.offline ?? (isOn(env.FILIGREE_OFFLINE) || isOn(env.HF_HUB_OFFLINE)),
  };
}

function isOn(value: string | undefined): boolean {
  return /^(?:1|on|yes|true)$/i.test(value ?? '');
}
