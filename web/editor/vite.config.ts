import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** The server answers `/` with index.html and `/assets/...` with its parts; `npm run dev` asks a server on 8188. */
export default defineConfig({
  plugins: [react()],
  build: { outDir: "../static/editor", emptyOutDir: true, assetsInlineLimit: 0, chunkSizeWarningLimit: 2000 },
  server: { proxy: { "/api": { target: "http://127.0.0.1:8188", ws: true } } },
});
