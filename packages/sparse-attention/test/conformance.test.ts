import { isOp } from '@filigree/core-tensor';
import * as sparseAttention from '@filigree/sparse-attention';
import { conformance } from '@filigree/testing';

conformance(Object.values<unknown>(sparseAttention).filter(isOp));
