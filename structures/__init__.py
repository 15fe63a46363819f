"""Pure geometry of layered oxides: frames, compositions, SQS, vacancies, hops."""
