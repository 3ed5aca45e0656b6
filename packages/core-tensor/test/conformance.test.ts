import * as core from '@filigree/core-tensor';
import { conformance } from '@filigree/testing';

conformance(Object.values<unknown>(core).filter(core.isOp));
