/** The numbers of GPUBufferUsage and GPUMapMode; the globals exist in browsers only. */
export const usage = {
  mapRead: 0x0001,
  copySource: 0x0004,
  copyTarget: 0x0008,
  uniform: 0x0040,
  storage: 0x0080,
  queryResolve: 0x0200,
} as const;

export const mapModeRead = 1;
export const computeStage = 4;
