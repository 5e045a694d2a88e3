/** What takes a while to compute of a sound, aside from the page. */

import { spectrum } from "../../model/spectrum";

addEventListener("message", (event: MessageEvent<{ id: number; channels: Float32Array[]; rate: number }>) => {
  const { id, channels, rate } = event.data;
  postMessage({ id, found: spectrum(channels, rate) });
});
