from pilothouse.runner import main

raise SystemExit(main())
