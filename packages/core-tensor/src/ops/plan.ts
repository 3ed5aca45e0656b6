import { uniform } from '../webgpu-plan.js';

export { composedShader, cut, elementwiseDispatch, groupsFor, itemsPerBinding, reach, wordMultiple } from '../webgpu-plan.js';

export const { u32, i32, f32 } = uniform;
