/** How far a download is. `verify` reads the file again to compare its checksum; `unpack` takes it out of an archive. */
export interface DownloadProgress {
  readonly phase: 'download' | 'verify' | 'unpack';
  /** What is downloaded, for display. */
  readonly file: string;
  readonly doneBytes: number;
  /** Absent while it is not known. */
  readonly totalBytes?: number;
}

/** Told how far a download is, often; slow work in it slows the download. */
export type OnDownloadProgress = (progress: DownloadProgress) => void;
