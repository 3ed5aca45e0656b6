import { isOp } from '@filigree/core-tensor';
import * as kvCache from '@filigree/kv-cache';
import { conformance } from '@filigree/testing';

conformance(Object.values<unknown>(kvCache).filter(isOp));
