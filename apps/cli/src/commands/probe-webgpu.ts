import { createWebGpuBackend } from '@filigree/backend-webgpu';
import type { AddCommand } from './command.js';

/** Whether there is a GPU to compute on, in a process of its own. Hidden: other commands run it. */
export const addProbeWebGpu: AddCommand = (program, run) => {
  program.command('probe-webgpu', { hidden: true }).action(() =>
    run(async ({ out }) => {
      const backend = await createWebGpuBackend();
      await out.json({ device: backend.capabilities.device });
      backend.dispose();
      return undefined;
    }),
  );
};
