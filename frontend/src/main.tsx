import "@mantine/core/styles.css";
import "./ui/page.css";
import "./ui/chat.css";
import "./ui/code.css";
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { watchTyping } from "./features/approvals/keys.ts";
import { followNotifications } from "./features/outgoing/push.ts";
import { isShown, takeShown } from "./features/signin/ticket.ts";
import { theme } from "./ui/theme.ts";
import { queries } from "./wiring.ts";

// Before anything is drawn: the secret must not stay in the address bar, the history or a screenshot.
const shown = takeShown();
// A link that is opened in this very tab changes the fragment only.
window.addEventListener("hashchange", () => {
  if (isShown(window.location.hash)) window.location.reload();
});

watchTyping();
followNotifications((hash) => {
  window.location.hash = hash;
});

const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <StrictMode>
      <MantineProvider theme={theme} defaultColorScheme="auto">
        <QueryClientProvider client={queries}>
          <App shown={shown} />
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
