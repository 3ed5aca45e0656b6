import { OptionError } from '@filigree/core-tensor';

/** A file of a repository on the Hugging Face Hub. */
export interface HubFile {
  /** "owner/name". */
  repo: string;
  /** Path inside of the repository. */
  file: string;
  /** Branch, tag or commit. */
  revision?: string;
  /** Another Hub than huggingface.co. */
  endpoint?: string;
}

/** The Hub, unless another is asked for. */
export const defaultHubEndpoint = 'https://huggingface.co';

/** The address of a file, for {@link httpSource} or any client. */
export function hubUrl({ repo, file, revision = 'main', endpoint = defaultHubEndpoint }: HubFile): string {
  assertHubNames({ repo, file, revision });
  const path = file.split('/').map(encodeURIComponent).join('/');
  return `${endpoint.replace(/\/+$/, '')}/${repo}/resolve/${encodeURIComponent(revision)}/${path}`;
}

/** Throws OptionError unless the names are ones that cannot leave their place in a URL or in the cache directory. */
export function assertHubNames({ repo, file, revision }: Required<Omit<HubFile, 'endpoint'>>): void {
  assertHubRepo(repo);
  const segments = file.split('/');
  if (segments.some((segment) => !/^[^\\:*?"<>|\p{Cc}]+$/u.test(segment) || /^\.+$/.test(segment)))
    throw new OptionError(`file: a path inside of the repository expected, got ${JSON.stringify(file)}`);
  if (!/^[\w][\w./-]*$/.test(revision) || revision.includes('..'))
    throw new OptionError(`revision: a branch, tag or commit expected, got ${JSON.stringify(revision)}`);
}

/** Throws OptionError unless it is "owner/name". */
export function assertHubRepo(repo: string): void {
  if (!/^\w[\w.-]*\/\w[\w.-]*$/.test(repo) || repo.includes('..'))
    throw new OptionError(`repo: "owner/name" expected, got ${JSON.stringify(repo)}`);
}
