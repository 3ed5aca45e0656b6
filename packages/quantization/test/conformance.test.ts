import * as quantization from '@filigree/quantization';
import { isOp } from '@filigree/core-tensor';
import { conformance } from '@filigree/testing';

conformance(Object.values<unknown>(quantization).filter(isOp));
