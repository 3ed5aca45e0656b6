export { fileSink, fileSource } from '#file-source';
export { cacheDirectory, hubDownload, hubSnapshot, listCached, pipModel, resolveModel } from '#hub';
export * from './errors.js';
export { GgufFile, type GgufContents, type GgufTensorInfo } from './gguf/gguf-file.js';
export { openGguf } from './gguf/open-gguf.js';
export { readGguf, type ReadGgufOptions } from './gguf/read-gguf.js';
export { readGgufShards } from './gguf/read-gguf-shards.js';
export { ggufShardNames } from './gguf/shard-names.js';
export { ggufByteLength, ggufTypeOf, ggufTypes, type GgufType, type GgufTypeInfo } from './gguf/types.js';
export { ggufValueTypes, type GgufArray, type GgufValue, type GgufValueType } from './gguf/value.js';
export { writeGguf, type GgufEntries, type GgufTensorEntry, type WriteGgufOptions } from './gguf/write-gguf.js';
export { chooseGguf } from './hub/choose-gguf.js';
export { defaultHubEndpoint, hubUrl, type HubFile } from './hub/hub-url.js';
export { knownModels, type KnownModel } from './hub/known-models.js';
export { parseModelName, type ModelName } from './hub/model-name.js';
export type {
  CachedFile,
  HubDownloadOptions,
  HubOptions,
  HubSnapshotOptions,
  PipModelOptions,
  ResolvedModel,
  ResolveModelOptions,
} from './hub/options.js';
export type { DownloadProgress, OnDownloadProgress } from './hub/progress.js';
export { isSafetensorsDType, safetensorsByteLength, safetensorsDTypes, type SafetensorsDType } from './safetensors/dtypes.js';
export { readSafetensorsIndex } from './safetensors/read-safetensors-index.js';
export { readSafetensors } from './safetensors/read-safetensors.js';
export { SafetensorsFile, type SafetensorsTensorInfo } from './safetensors/safetensors-file.js';
export { writeSafetensors, type SafetensorsTensorEntry } from './safetensors/write-safetensors.js';
export type { ByteSink } from './sinks/byte-sink.js';
export { bytesSink } from './sinks/bytes-sink.js';
export { writeTo } from './sinks/write-to.js';
export { blobSource } from './sources/blob-source.js';
export { maxReadBytes, type ByteSource } from './sources/byte-source.js';
export { bytesSource } from './sources/bytes-source.js';
export { concatSource } from './sources/concat-source.js';
export { httpSource, type HttpSourceOptions } from './sources/http-source.js';
export { opfsCachedSource, removeOpfsCached, type OpfsCacheOptions } from './sources/opfs-cached-source.js';
export type { TensorData } from './tensor-data.js';
export { readTensorBytes, readTensorChunks, type ByteRange, type TensorInfo } from './tensor-info.js';
