/** What the addon exports; see kernels/native/addon/src/lib.rs. */
export interface Engine {
  mapFile(id: number, path: string, offset: number, bytes: number): void;
  discard(id: number): void;
  write(id: number, offset: number, data: Uint8Array): void;
  submit(message: Float64Array): void;
  define(id: number, message: Float64Array, slots: Float64Array): void;
  replay(id: number, buffers: Float64Array): void;
  forgetProgram(id: number): void;
  read(id: number, offset: number, bytes: number): Promise<Uint8Array>;
  fence(failures: boolean): Promise<void>;
  profile(on: boolean): Promise<Float64Array>;
  abort(token: number): void;
  forget(token: number): void;
  depth(): number;
  queuedBytes(): number;
  memory(): number[];
  stop(): void;
}

export interface Addon {
  readonly ABI: number;
  opTable(): { name: string; hash: string }[];
  cpuPaths(): string[];
  defaultThreads(): number;
  readonly Engine: new (threads: number, cpu: string) => Engine;
}
