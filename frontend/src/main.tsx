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
import { takeTicket } from "./features/signin/ticket.ts";
import { theme } from "./ui/theme.ts";
import { queries } from "./wiring.ts";

// Before anything is drawn: the ticket must not stay in the address bar, the history or a screenshot.
const ticket = takeTicket();
// A sign-in link that is opened in this very tab changes the fragment only.
window.addEventListener("hashchange", () => {
  if (window.location.hash.startsWith("#ticket=")) window.location.reload();
});

watchTyping();

const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <StrictMode>
      <MantineProvider theme={theme} defaultColorScheme="auto">
        <QueryClientProvider client={queries}>
          <App ticket={ticket} />
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
