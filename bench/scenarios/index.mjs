// The scenarios, in the order of the report.
import { audiences } from './audiences.mjs';
import { burst } from './burst.mjs';
import { compression } from './compression.mjs';
import { fanOut } from './fan-out.mjs';
import { machines } from './machines.mjs';
import { many } from './many.mjs';
import { memory } from './memory.mjs';
import { privateEvents, privateJournals } from './private.mjs';
import { setUp } from './set-up.mjs';
import { single } from './single.mjs';
import { coldStorm, storm } from './storm.mjs';

export const scenarios = [
  fanOut,
  burst,
  privateEvents,
  privateJournals,
  audiences,
  memory,
  setUp,
  single,
  compression,
  many,
  storm,
  coldStorm,
  machines,
];
